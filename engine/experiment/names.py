"""What the files of an experiment are called, in one table."""

PARAMS = "params.json"  # the user's own words; never written to once it is there
SEARCH = "search.json"  # what a search varies, beside the params that its trials share
README = "README.md"
STATUS = "status.json"  # the state of the run, and how far it is
RUN = "run.json"  # where the numbers come from, and each look at a split
DATA = "data.json"  # what the task learned from the training data
DATA_FILES = "data_files.json"  # which files the data were
HISTORY = "metrics.jsonl"  # a line per epoch
SAMPLED = "sampled"  # in such a line: the scores of it that are of some batches only
BEST_SCORES = "metrics_val_best_weights.json"  # as the course named them
LAST_SCORES = "metrics_val_last_weights.json"
TEST_SCORES = "metrics_test_best.json"
BEST = "best.pth.tar"
LAST = "last.pth.tar"
PREVIOUS = "last.previous.pth.tar"  # while the run lasts
BOARD = "tensorboard"
TRACKED = "wandb"  # what W&B writes here, of this run alone
LOG = "train.log"
LOCK = ".lock"
OLD = ".old"  # where --fresh moves runs
