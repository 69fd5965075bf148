"""Requests about buckets and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from sagemaker_byoc.region.core.account import DEFAULT_REGION
from sagemaker_byoc.region.services.s3 import object_properties
from sagemaker_byoc.region.services.s3.call import Call, Operation, Requests, Route
from sagemaker_byoc.region.services.s3.object_properties import acl_document, owner_element
from sagemaker_byoc.region.services.s3.object_writes import check_acl, verify
from sagemaker_byoc.region.services.s3.store.objects import (
    S3Error,
    invalid_argument,
    no_such_bucket,
    unsupported,
)
from sagemaker_byoc.region.wire.http import Response
from sagemaker_byoc.region.wire.xml import document, element, parse, timestamp

_MAX_XML = 1 << 20
_MOST_BUCKETS = 10_000

_UNSET = {
    "cors": ("NoSuchCORSConfiguration", "The CORS configuration does not exist"),
    "lifecycle": ("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"),
    "object-lock": (
        "ObjectLockConfigurationNotFoundError",
        "Object Lock configuration does not exist for this bucket",
    ),
    "policy": ("NoSuchBucketPolicy", "The bucket policy does not exist"),
    "policyStatus": ("NoSuchBucketPolicy", "The bucket policy does not exist"),
    "replication": (
        "ReplicationConfigurationNotFoundError",
        "The replication configuration was not found",
    ),
    "website": (
        "NoSuchWebsiteConfiguration",
        "The specified bucket does not have a website configuration",
    ),
}
"""Settings that no bucket of this store has, and what S3 answers then."""

_BLOCKED = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_SETTINGS = {
    "encryption": (
        "ServerSideEncryptionConfiguration",
        element(
            "Rule",
            [
                element("ApplyServerSideEncryptionByDefault", [element("SSEAlgorithm", "AES256")]),
                element("BucketKeyEnabled", content=False),
            ],
        ),
    ),
    "ownershipControls": (
        "OwnershipControls",
        element("Rule", [element("ObjectOwnership", "BucketOwnerEnforced")]),
    ),
    "publicAccessBlock": (
        "PublicAccessBlockConfiguration",
        "".join(element(name, content=True) for name in _BLOCKED),
    ),
}
"""Settings that S3 gives to every new bucket; here they can't be changed."""
_IMPLIED = {("BucketKeyEnabled", "false")}

_EMPTY = {
    "accelerate": "AccelerateConfiguration",
    "logging": "BucketLoggingStatus",
    "notification": "NotificationConfiguration",
    "versioning": "VersioningConfiguration",
}


_OWNERSHIPS = frozenset({"BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"})


class BucketRequests(Requests):
    def routes(self) -> dict[Route, Operation]:
        return {
            ("GET", "service", ""): self.all,
            ("PUT", "bucket", ""): self.create,
            ("HEAD", "bucket", ""): self.head,
            ("DELETE", "bucket", ""): self.delete,
            ("GET", "bucket", "location"): self.location,
            ("GET", "bucket", "acl"): self.acl,
            ("PUT", "bucket", "acl"): self.put_acl,
            ("GET", "bucket", "tagging"): self.tagging,
            ("PUT", "bucket", "tagging"): self.tag,
            ("DELETE", "bucket", "tagging"): self.untag,
            **{("PUT", "bucket", name): partial(self.put_setting, name) for name in _SETTINGS},
            ("OPTIONS", "bucket", ""): self.preflight,
            ("OPTIONS", "object", ""): self.preflight,
            **{
                ("GET", "bucket", name): partial(self.setting, *_SETTINGS[name])
                for name in _SETTINGS
            },
            ("GET", "bucket", "requestPayment"): self.payment,
            **{("GET", "bucket", name): partial(self.unset, *_UNSET[name]) for name in _UNSET},
            **{("GET", "bucket", name): partial(self.setting, _EMPTY[name], "") for name in _EMPTY},
        }

    async def all(self, call: Call) -> Response:
        prefix, after = call.query.get("prefix", ""), call.query.get("continuation-token", "")
        elsewhere = call.query.get("bucket-region", self._account.region) != self._account.region
        most = call.query.get("max-buckets", "")
        count = int(most) if most.isdecimal() and len(most) < 6 else _MOST_BUCKETS
        found = [
            bucket
            for bucket in await self._threads.run(self._store.buckets)
            if bucket.name.startswith(prefix) and bucket.name > after and not elsewhere
        ]
        page = found[:count]
        return document(
            "ListAllMyBucketsResult",
            owner_element(self._account),
            element(
                "Buckets",
                [
                    element(
                        "Bucket",
                        [
                            element("Name", bucket.name),
                            element("CreationDate", timestamp(bucket.created)),
                            element("BucketRegion", self._account.region) if most else "",
                            element("BucketArn", self._account.arn("s3", bucket.name)),
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
        _check_features(call.headers)
        if not object_properties.takes_acl(call.headers, self._account):
            raise S3Error(
                "InvalidBucketAclWithObjectOwnership",
                "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
            )
        asked, tags = _configuration(body)
        self._check_location(asked)
        try:
            await self._threads.run(self._store.create_bucket, call.bucket, tags)
        except S3Error as error:
            # us-east-1 alone accepts a second creation (CreateBucket's reference).
            if error.code != "BucketAlreadyOwnedByYou" or self._account.region != DEFAULT_REGION:
                raise
        return Response(
            headers={
                "Location": f"/{call.bucket}",
                "x-amz-bucket-arn": self._account.arn("s3", call.bucket),
            }
        )

    def _check_location(self, asked: str | None) -> None:
        """Raise S3Error as the endpoint of the region does; us-east-1 is written as no location."""
        region = self._account.region
        if asked == DEFAULT_REGION:
            raise S3Error(
                "InvalidLocationConstraint",
                "The specified location-constraint is not valid",
                LocationConstraint=asked,
            )
        if (asked or DEFAULT_REGION) != region:
            raise S3Error(
                "IllegalLocationConstraintException",
                f"The {asked or 'unspecified'} location constraint is incompatible for the region"
                " specific endpoint this request was sent to.",
            )

    async def head(self, call: Call) -> Response:
        self.check(call)
        return Response(
            headers={
                "x-amz-bucket-region": self._account.region,
                "x-amz-bucket-arn": self._account.arn("s3", call.bucket),
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
        return acl_document(self._account)

    async def put_acl(self, call: Call) -> Response:
        self.check(call)
        await check_acl(call, self._account)
        return Response()

    async def tagging(self, call: Call) -> Response:
        tags = (await self._threads.run(self._store.bucket, call.bucket)).tags
        if not tags:
            raise S3Error(
                "NoSuchTagSet", "The TagSet does not exist", status=404, BucketName=call.bucket
            )
        return document("Tagging", object_properties.tag_set(tags))

    async def tag(self, call: Call) -> Response:
        body = await call.request.body.read(_MAX_XML)
        verify(call, body)
        tags = object_properties.document_tags(body, object_properties.MOST_BUCKET_TAGS)
        await self._threads.run(self._store.tag_bucket, call.bucket, tags)
        return Response(status=204)

    async def untag(self, call: Call) -> Response:
        await self._threads.run(self._store.tag_bucket, call.bucket, {})
        return Response(status=204)

    async def put_setting(self, setting: str, call: Call) -> Response:
        """Accept what every bucket has, as scripts put it; refuse the rest, which would be lost."""
        self.check(call)
        body = await call.request.body.read(_MAX_XML)
        verify(call, body)
        name, content = _SETTINGS[setting]
        fixed = parse(f"<{name}>{content}</{name}>".encode(), name).leaves()
        asked = parse(body, name).leaves()
        if not fixed - _IMPLIED <= asked <= fixed:
            raise unsupported(f"{name} (another than every bucket has)")
        return Response()

    async def preflight(self, call: Call) -> Response:
        """Refuse the request: no bucket has a CORS configuration."""
        if "origin" not in call.headers:
            raise S3Error("BadRequest", "Insufficient information. Origin request header needed.")
        raise S3Error(
            "AccessForbidden", "CORSResponse: CORS is not enabled for this bucket.", status=403
        )

    async def payment(self, call: Call) -> Response:
        self.check(call)
        return document("RequestPaymentConfiguration", element("Payer", "BucketOwner"))

    async def unset(self, code: str, message: str, call: Call) -> Response:
        self.check(call)
        raise S3Error(code, message, status=404, BucketName=call.bucket)

    async def setting(self, name: str, content: str, call: Call) -> Response:
        self.check(call)
        return document(name, content)

    def check(self, call: Call) -> None:
        """Raise S3Error NoSuchBucket."""
        if not self._store.has_bucket(call.bucket):
            raise no_such_bucket(call.bucket)


def _check_features(headers: Mapping[str, str]) -> None:
    """Raise S3Error for kinds of buckets that this store does not have."""
    ownership = headers.get("x-amz-object-ownership", "BucketOwnerEnforced")
    if ownership not in _OWNERSHIPS:
        raise invalid_argument(
            f"Invalid x-amz-object-ownership header: {ownership}",
            "x-amz-object-ownership",
            ownership,
        )
    usual = {
        "x-amz-object-ownership": "BucketOwnerEnforced",
        "x-amz-bucket-object-lock-enabled": "false",
        "x-amz-bucket-namespace": "global",
    }
    for name, value in usual.items():
        if headers.get(name, value).lower() != value.lower():
            raise unsupported(f"{name}: {headers[name]}")


def _configuration(body: bytes) -> tuple[str | None, dict[str, str]]:
    """Return the location of the bucket and its tags."""
    if not body.strip():
        return None, {}
    root = parse(body, "CreateBucketConfiguration")
    root.only("LocationConstraint", "Location", "Bucket", "Tags")
    for name in ("Location", "Bucket"):
        if root.all(name):
            raise unsupported(f"CreateBucketConfiguration.{name}")
    nodes = [tag for entry in root.all("Tags") for tag in entry.only("Tag").all("Tag")]
    return root.get("LocationConstraint") or None, object_properties.node_tags(
        nodes, object_properties.MOST_BUCKET_TAGS
    )
