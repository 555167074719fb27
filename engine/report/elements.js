"use strict";
// Elements of the page, made and found.

const UNPACKING = "This page needs a browser that can unpack gzip: any since 2023.";

function find(id) {
  return document.getElementById(id);
}

/** A new element. Text given as a child stays text, whatever it holds: nothing in this page is ever parsed as HTML. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

function note(text) {
  return element("p", { class: "note" }, text);
}

function swatch(color) {
  return element("span", { class: "swatch", style: `--color: ${color}` });
}

/** What has happened, for the parts of the page that depend on it: `task`, `viewed`, `picked`. */
function announce(name) {
  document.dispatchEvent(new Event(name));
}

async function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

function cut(text, longest = 60) {
  return text.length > longest ? `${text.slice(0, longest - 1)}…` : text;
}
