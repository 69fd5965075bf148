"""Requests about buckets, and the settings of theirs that clients look at."""

from __future__ import annotations

from functools import partial

from sagemaker_byoc.local.account import DEFAULT_REGION, Account
from sagemaker_byoc.local.storage.call import Call, Operation, Route
from sagemaker_byoc.local.storage.errors import S3Error, no_such_bucket
from sagemaker_byoc.local.storage.store import ObjectStore
from sagemaker_byoc.local.storage.threads import Threads
from sagemaker_byoc.local.storage.xml import document, element, parse, timestamp
from sagemaker_byoc.local.wire.http import Response

_MAX_XML = 1 << 20
_MOST_BUCKETS = 10_000

_UNSET = {
    "cors": ("NoSuchCORSConfiguration", "The CORS configuration does not exist"),
    "encryption": (
        "ServerSideEncryptionConfigurationNotFoundError",
        "The server side encryption configuration was not found",
    ),
    "lifecycle": ("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"),
    "object-lock": (
        "ObjectLockConfigurationNotFoundError",
        "Object Lock configuration does not exist for this bucket",
    ),
    "ownershipControls": (
        "OwnershipControlsNotFoundError",
        "The bucket ownership controls were not found",
    ),
    "policy": ("NoSuchBucketPolicy", "The bucket policy does not exist"),
    "policyStatus": ("NoSuchBucketPolicy", "The bucket policy does not exist"),
    "publicAccessBlock": (
        "NoSuchPublicAccessBlockConfiguration",
        "The public access block configuration was not found",
    ),
    "replication": (
        "ReplicationConfigurationNotFoundError",
        "The replication configuration was not found",
    ),
    "tagging": ("NoSuchTagSet", "The TagSet does not exist"),
    "website": (
        "NoSuchWebsiteConfiguration",
        "The specified bucket does not have a website configuration",
    ),
}
"""Settings that this store has no use for: no bucket has one, and that is what S3 says of those."""

_EMPTY = {
    "accelerate": "AccelerateConfiguration",
    "logging": "BucketLoggingStatus",
    "notification": "NotificationConfiguration",
    "versioning": "VersioningConfiguration",
}


class BucketRequests:
    def __init__(self, store: ObjectStore, account: Account, threads: Threads) -> None:
        self._store = store
        self._account = account
        self._threads = threads

    def routes(self) -> dict[Route, Operation]:
        return {
            ("GET", "service", ""): self.all,
            ("PUT", "bucket", ""): self.create,
            ("HEAD", "bucket", ""): self.head,
            ("DELETE", "bucket", ""): self.delete,
            ("GET", "bucket", "location"): self.location,
            ("GET", "bucket", "acl"): self.acl,
            ("GET", "bucket", "requestPayment"): self.payment,
            **{("GET", "bucket", name): partial(self.unset, *_UNSET[name]) for name in _UNSET},
            **{("GET", "bucket", name): partial(self.empty, _EMPTY[name]) for name in _EMPTY},
        }

    async def all(self, call: Call) -> Response:
        prefix, after = call.query.get("prefix", ""), call.query.get("continuation-token", "")
        most = call.query.get("max-buckets", "")
        count = int(most) if most.isdecimal() and len(most) < 6 else _MOST_BUCKETS
        found = [
            bucket
            for bucket in await self._threads.run(self._store.buckets)
            if bucket.name.startswith(prefix) and bucket.name > after
        ]
        page = found[:count]
        return document(
            "ListAllMyBucketsResult",
            self.owner(),
            element(
                "Buckets",
                [
                    element(
                        "Bucket",
                        [
                            element("Name", bucket.name),
                            element("CreationDate", timestamp(bucket.created)),
                            element("BucketRegion", self._account.region) if most else "",
                        ],
                    )
                    for bucket in page
                ],
            ),
            element("Prefix", prefix or None),
            element("ContinuationToken", page[-1].name if len(found) > count else None),
        )

    async def create(self, call: Call) -> Response:
        body = await call.request.body.read(_MAX_XML)
        asked = None
        if body.strip():
            asked = parse(body, "CreateBucketConfiguration").get("LocationConstraint")
        region = self._account.region
        if asked and asked != region:
            raise S3Error(
                "IllegalLocationConstraintException",
                f"The {asked} location constraint is incompatible for the region specific endpoint"
                " this request was sent to.",
            )
        try:
            await self._threads.run(self._store.create_bucket, call.bucket)
        except S3Error as error:
            # What us-east-1 alone answers who creates a bucket again (CreateBucket's reference).
            if error.code != "BucketAlreadyOwnedByYou" or region != DEFAULT_REGION:
                raise
        return Response(headers={"Location": f"/{call.bucket}"})

    async def head(self, call: Call) -> Response:
        self.check(call)
        return Response(
            headers={
                "x-amz-bucket-region": self._account.region,
                "x-amz-access-point-alias": "false",
                "Content-Type": "application/xml",
            }
        )

    async def delete(self, call: Call) -> Response:
        await self._threads.run(self._store.delete_bucket, call.bucket)
        return Response(status=204)

    async def location(self, call: Call) -> Response:
        self.check(call)
        region = self._account.region
        return document("LocationConstraint", "" if region == DEFAULT_REGION else region)

    async def acl(self, call: Call) -> Response:
        self.check(call)
        return self.acl_document()

    async def payment(self, call: Call) -> Response:
        self.check(call)
        return document("RequestPaymentConfiguration", element("Payer", "BucketOwner"))

    async def unset(self, code: str, message: str, call: Call) -> Response:
        self.check(call)
        raise S3Error(code, message, status=404, BucketName=call.bucket)

    async def empty(self, name: str, call: Call) -> Response:
        self.check(call)
        return document(name)

    def check(self, call: Call) -> None:
        """Raises S3Error NoSuchBucket."""
        if not self._store.has_bucket(call.bucket):
            raise no_such_bucket(call.bucket)

    def owner(self) -> str:
        return element("Owner", [element("ID", self._account.id)])

    def acl_document(self) -> Response:
        """All belongs to the one account there is."""
        instance = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        grantee = (
            f'<Grantee {instance} xsi:type="CanonicalUser">'
            f"{element('ID', self._account.id)}</Grantee>"
        )
        grant = element("Grant", [grantee, element("Permission", "FULL_CONTROL")])
        return document("AccessControlPolicy", self.owner(), element("AccessControlList", [grant]))
