"""One module or folder per AWS service, by the service's name in botocore. To add one:

1. Write `NAME.py`, or `NAME/NAME.py` if it needs more than one module: a class whose `operations()`
   is a table of methods by AWS's names of operations. A method takes and returns a dict as AWS's
   service model types it, and raises AwsError. A plain method runs in a thread and may read and
   write files; a coroutine runs on the event loop. The wire parses, validates and serializes, if
   the service's model has `json`, `query` or `smithy-rpc-v2-cbor` among its protocols.
2. Add it to the table in `region/composition.py`; if it has work to start or end, as a Part too.
3. Add its title to `docs/operations.py`, and its name to the import contract in `pyproject.toml`:
   services import each other only as listed there.
4. Test with `tests/support/members.py` that it ignores no member of a request.

`core/` has what services share: Records for state, `paging` for lists, `now` for times, and Watch
for long polls.
"""
