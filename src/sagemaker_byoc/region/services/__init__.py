"""One module or folder per AWS service, by the service's name in botocore.

A new service is `services/NAME.py`, or `services/NAME/NAME.py` if it needs more than one module: a
class whose `operations()` maps the names of AWS's operations to coroutines of parameters, raising
AwsError. The wire reads and checks parameters by AWS's service model and writes the answer. Add the
class to the table in `composition.py`, and as a Part if it has work to start or end, and a title to
`docs/operations.py`. Take from `core/` what is shared: Records for state, `paging` for lists, `now`
for times, Watch for long polls. Services import each other only as pyproject.toml lists it.
"""
