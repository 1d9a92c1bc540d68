"""One driver per file, its only importer. Plain arguments in, plain values out; knows no card."""
