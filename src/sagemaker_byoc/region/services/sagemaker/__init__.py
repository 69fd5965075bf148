"""SageMaker's resources: a folder or a module per kind, by AWS's word for it.

How to add a kind, such as `processing_jobs`:

1. Write `processing_jobs/processing_jobs.py` with a class that is made from one `RegionContext`.
   Its `operations()` maps names of AWS's operations to methods, as `services/__init__.py` says.
   The context has the account, the engine, the object store, the logs, and `records` or `catalog`
   for the documents.
2. If it has work that must start, or end with the region, add `start` and `close`
   (`composition.Part`), and remove in `start` what a killed region left.
3. If a client waits for its end, give it a watch: `watch = context.holds.watch(Subject(…))`. Its
   Describe operation returns `await watch.see(name, read)`, its Create and Update operations call
   `watch.expect(name)` at their end, and whatever changes the document calls
   `watch.announce(name)`. `core/polling.py` knows how each client polls.
4. Add it to `kinds` in `region/composition.py`.

`catalog.py` has names, tags, lists and AWS's words for refusals. Jobs take from `jobs/` what they
share: `inputs.py` and `outputs.py` (S3), `pipes.py`, and `containers.py`, which runs the containers
of a job, writes their logs and words a FailureReason.
"""
