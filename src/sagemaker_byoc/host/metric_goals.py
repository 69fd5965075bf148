"""Whether more or less of a metric is better, by its name; None if the name does not say.

Names come from scikit-learn, XGBoost, LightGBM, Hugging Face, Lightning and torchmetrics, with
prefixes and suffixes (`val/acc@5`, `eval_rougeLsum`, `test-mAP_50`). A name that is not known has
no best value: a wrong one is worse than none.
"""

from __future__ import annotations

import re
from enum import StrEnum


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
    """Losses win: `dice loss` and `brier score` are to be small."""
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
