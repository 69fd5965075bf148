"""ceph/s3-tests against a region: run it, sort what does not pass by its reason, write the page.

The suite is not part of this repository; scripts/s3-tests names the checkout.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from xml.etree import ElementTree as ET

from sagemaker_byoc.region.region import Region

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "s3-tests.md"
FILES = ("s3tests/functional/test_s3.py", "s3tests/functional/test_headers.py")
MARKS = "not fails_on_aws"
SECTIONS = ("s3 main", "s3 alt", "s3 tenant", "iam", "iam root", "iam alt root")

REFUSED = "refused with NotImplemented"
"""The class of what docs/reference/region-operations.md lists as not supported."""

CLASSES = [
    (
        REFUSED,
        (
            "The operation or the header is not supported. It is refused with 501, by its name and"
            " before its arguments are looked at."
        ),
        r"NotImplemented|assert 501 ==",
        "",
    ),
    (
        "ACLs are disabled",
        (
            "Every bucket is `BucketOwnerEnforced`, as S3 makes them since April 2023: ACLs that"
            " give anything to anybody else are refused in S3's words. Most of these tests need"
            " such an ACL only to prepare what they look at."
        ),
        r"AccessControlListNotSupported|InvalidBucketAclWithObjectOwnership",
        r"test_bucket_(acl_revoke_all|recreate_new_acl|concurrent_set_canned_acl)",
    ),
    (
        "no DisplayName",
        "S3 stopped sending `DisplayName` in November 2025.",
        r"DisplayName",
        "",
    ),
    (
        "one account",
        "A region has one account, so no bucket is anybody else's.",
        "",
        r"nonowner|not_owned_bucket|test_access_bucket_private|test_bucket_policy_multipart",
    ),
    (
        "headers that the suite can't set",
        "The client signs, and dates, after the suite has changed the header; its comments say so.",
        "",
        r"bad_authorization|bad_date_none_aws2",
    ),
]
"""Title, reason, and patterns of the failure's text or of the test's name."""

_NO_POLICY = "No bucket has a policy: S3 says NoSuchBucketPolicy."
OTHERWISE = {
    "test_bucket_get_location": "us-east-1 has no location constraint, and S3 refuses its name.",
    "test_delete_marker_nonversioned": "S3 leaves `x-amz-delete-marker` out if it is false.",
    "test_get_bucket_encryption_kms": "Since January 2023 every bucket has encryption (AES256).",
    "test_get_bucket_encryption_s3": "Since January 2023 every bucket has encryption (AES256).",
    "test_get_bucket_policy_status": _NO_POLICY,
    "test_get_nonpublicpolicy_acl_bucket_policy_status": _NO_POLICY,
    "test_get_publicpolicy_acl_bucket_policy_status": _NO_POLICY,
    "test_get_multipart_checksum_object_attributes": (
        "S3 demands the checksum of each part to complete an upload of composite checksums."
    ),
    "test_multipart_get_part": "S3 answers 416 InvalidPartNumber.",
    "test_multipart_single_get_part": "S3 answers 416 InvalidPartNumber.",
    "test_non_multipart_get_part": "S3 answers 416 InvalidPartNumber.",
    "test_multipart_resend_first_finishes_last": (
        "It names one part twice, which S3 refuses with InvalidPartOrder."
    ),
    "test_object_create_bad_contentlength_mismatch_below_aws2": (
        "What follows the stated length is not a request, and the answer is 400."
    ),
    "test_object_create_bad_contentlength_none": "The client sends Content-Length all the same.",
    "test_object_raw_put_authenticated_expired": (
        "A negative X-Amz-Expires is 400 AuthorizationQueryParametersError."
    ),
    "test_object_read_unreadable": "The key is legal; it only does not exist.",
    "test_object_set_get_unicode_metadata": (
        "Metadata is US-ASCII; other bytes go back as they came, and the client reads Latin-1."
    ),
    "test_sse_kms_no_key": "Without a key S3 takes the account's own, `alias/aws/s3`.",
}
"""Tests that expect what S3 does not do."""


def main(folder):
    with tempfile.TemporaryDirectory() as scratch, Region(Path(scratch) / "state") as region:
        # A test counts the buckets of the account, and the region starts with one.
        s3 = region.client("s3")
        for bucket in s3.list_buckets()["Buckets"]:
            s3.delete_bucket(Bucket=bucket["Name"])
        config = Path(scratch) / "s3tests.conf"
        config.write_text(configuration(region))
        report = Path(scratch) / "report.xml"
        command = [folder / ".venv/bin/python", "-m", "pytest", "-q", "--tb=short", "-m", MARKS]
        subprocess.run(
            [*command, f"--junitxml={report}", *FILES],
            cwd=folder,
            env={"S3TEST_CONF": str(config), "PATH": "/usr/bin:/bin"},
            check=False,
            timeout=3600,
        )
        cases = list(ET.parse(report).iter("testcase"))
    commit = subprocess.run(
        ["git", "-C", folder, "log", "-1", "--format=%H of %as"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = classify(cases)
    PAGE.write_text(page(found, commit.stdout.strip()))
    print(f"{len(found['pass'])} of {len(cases)} pass; see {PAGE}")
    for name in found[""]:
        print(f"without a reason: {name}")
    return 1 if found[""] else 0


def configuration(region):
    host, port = region.url.removeprefix("http://").split(":")
    variables = region.environ
    lines = ["[DEFAULT]", f"host = {host}", f"port = {port}", "is_secure = False"]
    lines += ["[fixtures]", "bucket prefix = s3t-{random}-"]
    lines += ["iam name prefix = s3-tests-", "iam path prefix = /s3-tests/"]
    for section in SECTIONS:
        lines += [
            f"[{section}]",
            f"display_name = {section}",
            f"email = {section.replace(' ', '-')}@example.com",
            f"user_id = {region.account.id}",
            f"access_key = {variables['AWS_ACCESS_KEY_ID']}",
            f"secret_key = {variables['AWS_SECRET_ACCESS_KEY']}",
            f"api_name = {region.account.region}",
            "tenant = tenant",
        ]
    return "\n".join(lines) + "\n"


def classify(cases):
    """Names by class; `pass`, `skip`, and nothing for what has no reason."""
    found = defaultdict(list)
    for case in cases:
        trouble = case.find("failure")
        if trouble is None:
            trouble = case.find("error")
        if case.find("skipped") is not None:
            found["skip"].append(case.get("name"))
        elif trouble is None:
            found["pass"].append(case.get("name"))
        else:
            text = f"{trouble.get('message')}\n{trouble.text}"
            found[reason(case.get("name"), text)].append(case.get("name"))
            for operation in re.findall(r"NotImplemented\) when calling the (\w+)", text)[:1]:
                found["operations"].append(operation)
    return found


def reason(name, text):
    if name in OTHERWISE:
        return "S3 does otherwise"
    for title, _, pattern, names in CLASSES:
        if (pattern and re.search(pattern, text)) or (names and re.search(names, name)):
            return title
    return ""


def page(found, commit):
    ran = sum(len(names) for title, names in found.items() if title != "operations")
    lines = [
        "# ceph/s3-tests against the local region",
        "",
        "The S3 compatibility tests of Ceph, which other makers of object stores use too.",
        f"Version: commit {commit}. Command: `scripts/s3-tests FOLDER`, which writes this page and",
        "fails if a test fails for a reason that `tests/region/s3_tests.py` does not know. It runs",
        f"`{'` and `'.join(FILES)}` with `-m '{MARKS}'`.",
        "",
        "| result | tests |",
        "|---|---|",
        f"| pass | {len(found['pass'])} |",
        f"| skipped by the suite | {len(found['skip'])} |",
    ]
    titles = [title for title, *_ in CLASSES] + ["S3 does otherwise", ""]
    lines += [
        f"| {title or 'no reason'} | {len(found[title])} |" for title in titles if found[title]
    ]
    lines += [f"| all | {ran} |"]
    for title, why, *_ in CLASSES:
        lines += ["", f"## {title}", "", why, ""]
        if title == REFUSED:
            counted = Counter(found["operations"]).most_common()
            lines += ["Tests by the first operation that is refused:", ""]
            lines += [f"- `{operation}`: {count}" for operation, count in counted]
        else:
            lines += [f"- `{name}`" for name in sorted(found[title])]
    lines += ["", "## S3 does otherwise", ""]
    named = sorted(found["S3 does otherwise"])
    lines += [f"- `{name}`: {OTHERWISE[name]}" for name in named]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
