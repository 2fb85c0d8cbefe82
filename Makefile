# The same commands as `python3 make.py`, which needs no make.
.PHONY: demo test lock
demo test lock:
	python3 make.py $@
