"""The machinery behind the scripts: one noun per module. Nothing that trains knows a task; images have their own.

A run of `train.py` meets, in this order:

`errors`           what the user can mend is one line and status 2
`hyperparameters`  params.json, checked against the table of keys
`experiment`       the folder: what lies where; `status` has its lock and heartbeat
`stopping`         Ctrl-C and SIGTERM let the step under way finish; `tracking` is the log, the bar, TensorBoard
`device`           where it is computed, and in which precision
`task`             the package that params name: loaders, Net, loss, metrics
`feed`             the batches of each epoch, the same ones whenever asked for, by numbers from `randomness`
`data`             batches that are resident; `iterators` takes the loaders of the course's text example
`optimization`     optimizer, gradients, schedule
`state`            all that training changes, and so all that a `checkpoint` holds
`metrics`          losses and scores of a split, added up
`monitoring`       which epoch is best; whether training is sound
`provenance`       run.json: command, code, versions, data

Evaluation: `predictions`, and of a classification the pictures in `classification`.
Images: `image_folder` finds them, `image_cache` decodes them, `augmentation` varies them; `sample_data` are the digits.
Search: `space` of search.json, its `trials` and their `outcomes`, `sampling` the next one, `pruning` poor ones,
`workers` that train them, and the `live_table` meanwhile.
Comparison: `records` of folders become the groups of a `comparison`, with their `ranking` by `statistics`,
the columns of a `table` and its `layout`; `difference` and `revisions` tell what two differ in.
The `report` is all of this as one page.
Shared by all: `files` that are whole, `nested` tensors, `seeds`, `wording`, `explanations` of torch's errors, `system`.
"""
