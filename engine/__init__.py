"""The machinery behind the scripts: rooms on one ground floor. `README.md` beside this file is the plan of the house.

The ground, which any room may stand on: `errors` are one line and status 2; `files` are whole or not there;
`hyperparameters` is params.json, checked against the table of keys; `nested` tensors; `seeds` that follow from where
they are used, and `randomness` seeded by them; what differs between operating systems is in `system`.

The rooms, each with a door that says what it is for and hands out its names:

`data`         where batches come from
`experiment`   the folder of a run
`training`     what a run is made of; stands on `data` and `experiment`
`search`       many experiments from one; stands on `experiment`
`comparison`   experiments side by side; stands on `experiment`
`report`       the same as one page; stands on `comparison`
`check`        a task examined before it is trained; stands on `training` and what that stands on
"""
