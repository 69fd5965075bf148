"""SageMaker's resources: a folder or a module per kind, by AWS's word for it.

How to add a kind:

1. Declare it: a `Kind` (`resources.py`) with AWS's words for it, and a `Subject` if clients wait
   for its end (`core/polling.py` knows how each client polls).
2. Write a class that is made from one `RegionContext` and opens its documents with
   `context.resources(KIND)`. Its `operations()` are those of the `Resources`, which describe, list
   and delete, and its own: a Create operation checks the request, resolves what it names, and adds
   the document. Whatever changes the document calls `resources.change`, which keeps and announces
   it.
3. If it has work that must start, or end with the region, add `start` and `close`
   (`composition.Part`), and remove in `start` what a killed region left.
4. Add it to `kinds` in `region/composition.py`.

How to add a kind of job: declare a `JobKind` (`jobs/job.py`), and derive two classes. `Jobs`
(`jobs/job_operations.py`) has the operations; its `_prepare` returns a document and a run.
`ContainersRun` (`jobs/job_run.py`) stages the input, runs the containers, and keeps the record, the
log and the clock; the kind lays out its containers and sends their results. A job of another form
derives from `JobRun`.
"""
