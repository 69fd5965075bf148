"""The runs that a folder holds: of `byoc train`, of the region's object store, or of any log.

A run is a run.json with its metrics.jsonl, in a folder or in a job's output.tar.gz; or, for a
program that only prints, a *.log beside a metric_definitions.json. `byoc train` leaves a run.json
beside the archives; if the program tracked, the two are one run.

Whether more or less of a metric is better is read from its name, if the run does not say.
"""

from __future__ import annotations

import json
import lzma
import re
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract.archives import OUTPUT_ARCHIVE
from sagemaker_byoc.contract.errors import ContractError, DocumentError, RequestError
from sagemaker_byoc.contract.files import parse_object
from sagemaker_byoc.contract.training.runs import (
    DEFINITIONS_FILE,
    METRICS_FILE,
    RUN_FILE,
    RunRecord,
    lint,
    values,
)


class Goal(StrEnum):
    MAX = "max"
    MIN = "min"

    @property
    def opposite(self) -> Goal:
        return Goal.MIN if self is Goal.MAX else Goal.MAX


_LOSSES = frozenset(
    """
    loss losses err error errors merror eer mae mse rmse msle rmsle mape smape wmape mdape mase wape
    medae mphe mad mpe perplexity ppl wer cer ter mer wil fid kid lpips nll nloglik bpb bpc bpd bits
    latency time runtime duration elapsed second seconds sec secs ms millis minute minutes hour
    hours memory mem vram brier ece mce logloss mlogloss deviance xent crossentropy
    hinge huber pinball regret divergence kl kld jsd wasserstein emd mmd chamfer hausdorff epe ade
    fde crps dcf hd fpr fnr aic bic rss sse residual residuals distance violations failures misses
    failure miss misclassification hallucination toxicity ttft tpot
    """.split()  # noqa: SIM905 - a hundred words read better as text
)
_GAINS = frozenset(
    """
    acc accuracy accuracies top auc auroc auprc aucpr rocauc roc ap map mar f f1 fbeta fscore
    fmeasure bleu sacrebleu chrf rouge meteor cider spice bertscore bleurt comet ndcg dcg mrr hit
    hits recall precision sensitivity specificity tpr tnr ppv npv iou miou jaccard dice psnr ssim
    snr sdr sisdr stoi pesq mos vmaf r2 mcc matthews kappa qwk spearman pearson kendall corr
    correlation reward rewards rew return returns score scores win wins success pass em likelihood
    loglik loglikelihood elbo throughput tflops tps fps qps rps speed speedup mfu hfu lift profit
    gain revenue sharpe silhouette purity nmi ari concordance cindex coverage
    """.split()  # noqa: SIM905 - a hundred words read better as text
)
_RATES = (
    "it|its|tok|toks|tokens|samples|examples|rows|images|imgs?|steps|batch|batches|req|requests"
)
_PHRASES: tuple[tuple[str, Goal | None], ...] = (
    (r"loss (scale|weight|coef\w*)", None),
    (
        rf"per (s|secs?|seconds?|min|minute|hour|day)\b|({_RATES}) (s|secs?|seconds?)\b|ms ssim",
        Goal.MAX,
    ),
    (r"false (positive|negative|alarm|discovery|omission)|cross entropy", Goal.MIN),
    (r"hamming(?! score)|log cosh|bits per|[fk]id\d+k?\b", Goal.MIN),
    (r"true (positive|negative)|r squared|r 2\b|explained variance|exact match", Goal.MAX),
    (r"log likelihood|inception score|average precision|c index", Goal.MAX),
)
"""Looked for in this order, before single words."""
_ABOUT_ANOTHER = frozenset(
    """
    std stdev stddev stderr var variance delta diff difference change drop gap degradation threshold
    weight coef coefficient
    """.split()  # noqa: SIM905 - as above
)
"""As in `acc_std`, `f1_threshold`, `accuracy_drop`: the goal of the other metric is not that of
this one."""
_TURNED = re.compile(r"\bneg(?:ative)? |\bone minus |^1 (?=[a-z])")
"""scikit-learn's `neg_mean_squared_error`; `1-accuracy`."""
_LOSS_ENDS = ("loss", "error", "rmse", "nloglik", "deviance", "perplexity")
"""As in `mlogloss`, `valloss`, `trainerror`."""
_GAIN_STARTS = (
    "rouge",
    "bleu",
    "accuracy",
    "precision",
    "recall",
    "ndcg",
    "auroc",
    "f1",
    "r2",
    "pearson",
    "spearman",
)
"""As in `rougelsum`, `f1score`, `recallat10`."""
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])")


def goal_of(metric: str) -> Goal | None:
    """Return the goal by the name of a metric."""
    name = re.sub(r"[^a-z0-9]+", " ", _CAMEL.sub(" ", metric).lower()).strip()
    turned = _TURNED.search(name)
    inner = _goal(name[turned.end() :]) if turned else None
    return inner.opposite if inner is not None else _goal(name)


def _goal(name: str) -> Goal | None:
    """Return the goal of a metric by its name. Losses win: `dice loss` is to be small."""
    for pattern, goal in _PHRASES:
        if re.search(rf"\b(?:{pattern})", name):
            return goal
    words = name.split()
    if not _ABOUT_ANOTHER.isdisjoint(words):
        return None
    words += [word.rstrip("0123456789") for word in words]
    if any(word in _LOSSES or word.endswith(_LOSS_ENDS) for word in words):
        return Goal.MIN
    if any(word in _GAINS or word.startswith(_GAIN_STARTS) for word in words):
        return Goal.MAX
    return None


MOST_FILES = 100_000
MOST_MEMBERS = 100_000
"""Entries of an archive that are looked at."""
MOST_BYTES = 64 << 20
"""Bytes that are read of one file, one member of an archive, or one log."""
_CORRUPT = (OSError, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError)


@dataclass(frozen=True, slots=True)
class Run:
    record: RunRecord
    place: Path
    points: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """All values of each metric, in the order of steps."""

    def best(self, metric: str, goal: Goal | None = None) -> float | None:
        """Return the greatest or the smallest value, by `goal` or by the name; None if unknown."""
        goal = goal or goal_of(metric)
        last = self.record.metrics.get(metric)
        known = self.points.get(metric) or (() if last is None else (last,))
        points = [value for value in known if value == value]  # noqa: PLR0124 - NaN
        if not points or goal is None:
            return None
        return max(points) if goal is Goal.MAX else min(points)


@dataclass(slots=True)
class Found:
    runs: list[Run] = field(default_factory=list)
    broken: list[ContractError] = field(default_factory=list)
    """Files that can't be read; the other runs are listed all the same."""


def find_runs(folder: Path) -> Found:
    """Return all runs, the oldest first. Raise RequestError if `folder` is not a folder."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise RequestError(
            f"{folder} {what}", hint="Name a folder of `byoc train`, of a region, or of logs"
        )
    found = Found()
    jobs: dict[Path, int] = {}
    # run.json before output.tar.gz: a job is known before what it tracked
    paths = folders.files(folder, order=lambda name: (name != RUN_FILE, name))
    for number, path in enumerate(paths):
        if number >= MOST_FILES:
            what = f"holds more than {MOST_FILES:,} files, and the others were not looked at"
            hint = "Name a folder below it"
            found.broken.append(DocumentError(where=str(folder), what=what, hint=hint))
            break
        try:
            run = _run(path)
        except ContractError as error:
            found.broken.append(error)
            continue
        if run is None:
            continue
        job = jobs.get(path.parent) if path.name == OUTPUT_ARCHIVE else None
        if job is not None:
            found.runs[job] = of_job(found.runs[job].record, run)
            continue
        if path.name == RUN_FILE:
            jobs[path.parent] = len(found.runs)
        found.runs.append(run)
    found.runs.sort(key=lambda run: (run.record.started, run.record.name))
    return found


def of_job(job: RunRecord, tracked: Run) -> Run:
    """Return the run that Track left in a job's output, with the job's name and status."""
    record = replace(
        tracked.record,
        name=job.name,
        status=job.status,
        image=tracked.record.image or job.image,
        metrics={**job.metrics, **tracked.record.metrics},
    )
    return replace(tracked, record=record)


def _run(path: Path) -> Run | None:
    """Return the run of a file, None if it has none. Raise DocumentError if it can't be read."""
    is_log = path.suffix == ".log" and not path.with_name(RUN_FILE).exists()
    if not (is_log or path.name in {RUN_FILE, OUTPUT_ARCHIVE}):
        return None
    if path.name == RUN_FILE:
        return _from_folder(path)
    if path.name == OUTPUT_ARCHIVE:
        return from_archive(path)
    definitions = path.with_name(DEFINITIONS_FILE)
    return _from_log(path, definitions) if definitions.is_file() else None


def _from_folder(path: Path) -> Run | None:
    metrics = path.with_name(METRICS_FILE)
    text = _text(metrics) if metrics.is_file() else ""
    return _with_points(_record(_text(path), str(path)), path.parent, text)


def _text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(MOST_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise DocumentError(
            where=str(path), what=f"can't be read ({error.strerror})", hint="Make it readable"
        ) from error


def from_archive(path: Path) -> Run | None:
    """Return the run of an archive; None if it holds none."""
    texts: dict[str, str] = {}
    try:
        with tarfile.open(path) as archive:
            for number, member in enumerate(archive):
                name = member.name.removeprefix("./")
                if name in {RUN_FILE, METRICS_FILE} and member.isfile():
                    file = archive.extractfile(member)
                    texts[name] = file.read(MOST_BYTES).decode("utf-8", "replace") if file else ""
                if len(texts) == 2 or number >= MOST_MEMBERS:
                    break
    except _CORRUPT as error:
        raise DocumentError(
            where=str(path), what=f"can't be read ({error})", hint="Remove it, or name a folder"
        ) from error
    if RUN_FILE not in texts:
        return None
    record = _record(texts[RUN_FILE], f"{path}: {RUN_FILE}")
    return _with_points(record, path, texts.get(METRICS_FILE, ""))


def _record(text: str, where: str) -> RunRecord:
    return RunRecord.parse(parse_object(text, where), where)


def _with_points(record: RunRecord, place: Path, text: str) -> Run:
    points: dict[str, list[float]] = {}
    for line in text.split("\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue  # a job that was killed on a full disk
        for name, value in row.items() if isinstance(row, dict) else ():
            number = _value(value)
            if name != "step" and number is not None:
                points.setdefault(name, []).append(number)
    last = {name: found[-1] for name, found in points.items()}
    return Run(replace(record, metrics={**last, **record.metrics}), place, points)


def _value(found: object) -> float | None:
    try:
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        return float(found) if is_number else None  # type: ignore[arg-type] # a number then
    except OverflowError:
        return None


def _from_log(path: Path, definitions: Path) -> Run:
    """Return what SageMaker would have taken from the printed lines."""
    lines = _text(path).splitlines()
    try:
        listed = json.loads(_text(definitions))
    except (ValueError, RecursionError) as error:
        raise DocumentError(
            where=str(definitions), what=f"is not JSON ({error})", hint="Write a list"
        ) from error
    if not isinstance(listed, list) or not all(map(_is_definition, listed)):
        raise DocumentError(
            where=str(definitions),
            what="is not a list of definitions",
            hint='Write [{"Name": "loss", "Regex": "loss: ([0-9.]+)"}]',
        )
    broken = [problem for problem in lint(listed, []) if "greedy" not in problem.what]
    if broken:
        raise DocumentError(
            where=str(definitions), what=str(broken[0]), hint="Correct the definition"
        )
    points = {one["Name"]: values(one, lines) for one in listed}
    started = path.stat().st_mtime
    last = {name: found[-1] for name, found in points.items() if found}
    record = RunRecord(name=path.stem, status="", started=started, metrics=last)
    return Run(record, path, points)


def _is_definition(found: object) -> bool:
    keys = ("Name", "Regex")
    return isinstance(found, dict) and all(isinstance(found.get(key), str) for key in keys)
