"""`byoc runs` on folders as jobs leave them."""

from __future__ import annotations

import gzip
import json
import os
import tarfile

import pytest

from sagemaker_byoc.cli.main import main
from sagemaker_byoc.contract.training.runs import RunRecord
from sagemaker_byoc.host.recorded_runs import Goal, goal_of


def make_run(folder, name, *, rate, losses, **settings):
    folder.mkdir(parents=True)
    record = RunRecord(
        name=name,
        status="Completed",
        ended=5.0,
        parameters={"rate": rate, "epochs": 3},
        **settings,
    )
    record.write(folder / "run.json")
    rows = [json.dumps({"step": n, "loss": loss}) + "\n" for n, loss in enumerate(losses)]
    (folder / "metrics.jsonl").write_text("".join(rows))


@pytest.fixture
def folder(tmp_path):
    """One run in a folder, one in an archive, one program that only printed."""
    make_run(tmp_path / "a" / "output", "first", rate=0.1, losses=[3.0, 1.0, 2.0], commit="c0ffee")
    make_run(tmp_path / "made", "second", rate=0.5, losses=[3.0, 0.5], started=1.0)
    (tmp_path / "b").mkdir()
    with tarfile.open(tmp_path / "b" / "output.tar.gz", "w:gz") as archive:
        for name in ("run.json", "metrics.jsonl"):
            archive.add(tmp_path / "made" / name, name)
            (tmp_path / "made" / name).unlink()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "printed.log").write_text("epoch 1 loss: 4.0\nepoch 2 loss: 0.25\n")
    definitions = [{"Name": "loss", "Regex": "loss: ([0-9.]+)"}]
    (tmp_path / "c" / "metric_definitions.json").write_text(json.dumps(definitions))
    return tmp_path


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_list(folder, capsys):
    """A row each, the oldest first, with what differs and the last metrics."""
    assert main(["runs", str(folder)]) == 0
    head, *rows = lines(capsys)
    assert head.split() == [
        "run",
        "status",
        "started",
        "(UTC)",
        "took",
        "code",
        "rate",
        "loss",
    ] or ("epochs" in head)
    assert [row.split()[0] for row in rows] == ["first", "second", "printed"]
    assert rows[0].split()[-1] == "2"
    assert rows[2].split()[-1] == "0.25"


def test_compare(folder, capsys):
    """Side by side; equal parameters are left out, the best value is there."""
    assert main(["runs", str(folder), "--compare", "second", "first"]) == 0
    rows = {line.strip().split("  ")[0]: line.split() for line in lines(capsys)}
    assert rows["rate"][1:] == ["0.5", "0.1"]
    assert "epochs" not in rows
    assert rows["best loss"][2:] == ["0.5", "1"]


def test_sort(folder, capsys):
    """By the best value of a metric."""
    assert main(["runs", str(folder), "--sort", "loss"]) == 0
    assert [row.split()[0] for row in lines(capsys)[1:]] == ["printed", "second", "first"]


def test_json(folder, capsys):
    """Everything, for programs."""
    assert main(["runs", str(folder), "--json"]) == 0
    documents = json.loads(capsys.readouterr().out)
    assert documents[0]["commit"] == "c0ffee"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--compare", "third"], "there is no run 'third'"),
        (["--sort", "accuracy"], "no run has a metric 'accuracy'"),
    ],
)
def test_wrong(folder, capsys, arguments, words):
    """What is missing, and what there is."""
    assert main(["runs", str(folder), *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("run.json", b'{"format": 1, "name": "cu'),
        ("run.json", b""),
        ("run.json", b"[1]"),
        ("run.json", b"[" * 100_000),
        ("run.json", b'{"format": 9}'),
        ("run.json", b"\xff\xfe\x00"),
        ("output.tar.gz", b"not an archive"),
        ("output.tar.gz", gzip.compress(b"x" * 5000, mtime=0)[:40]),
        ("output.tar.gz", gzip.compress(b"run.json".ljust(512, b"\0"), mtime=0)),
    ],
)
def test_a_broken_file_hides_no_run(folder, capsys, name, data):
    """It is named with the reason; alone it is an error."""
    (folder / "z").mkdir()
    broken = folder / "z" / name
    broken.write_bytes(data)
    assert main(["runs", str(folder)]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 4
    assert f"left out: {broken}" in said.err
    assert main(["runs", str(folder), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    assert main(["runs", str(broken.parent)]) == 2
    assert f"{broken}" in capsys.readouterr().err


def test_too_many_files(folder, capsys, monkeypatch):
    """What was not looked at is said."""
    monkeypatch.setattr("sagemaker_byoc.host.recorded_runs.MOST_FILES", 2)
    assert main(["runs", str(folder)]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert f"left out: {folder} holds more than 2 files" in said.err


def test_a_pipe_is_not_waited_for(folder, capsys):
    os.mkfifo(folder / "run.json")
    assert main(["runs", str(folder)]) == 0
    assert len(lines(capsys)) == 4


HOSTILE = {
    "format": 1,
    "name": "line\nend \x1b[31m",
    "status": 7,
    "started": 1e300,
    "ended": "NaN",
    "parameters": {"a\nb": "x\ny", "deep": [float("nan")], "long": "x" * 9000},
    "hosts": 10**400,
    "processes": "inf",
    "artifacts": [{"size": "NaN"}, 7],
    "metrics": {"loss": "NaN", "huge": 10**400, "accuracy": "Infinity"},
}


def test_hostile_values(tmp_path, capsys):
    """One row, no control character; JSON without NaN."""
    (tmp_path / "run.json").write_text(json.dumps(HOSTILE))
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "loss": NaN}\n{"loss": ' + "9" * 400 + '}\n7\n{"loss": true}\n[[\n'
    )
    for words in ([], ["--sort", "loss"], ["--compare", HOSTILE["name"]]):
        assert main(["runs", str(tmp_path), *words]) == 0
        shown = capsys.readouterr().out
        assert "\x1b" not in shown
        assert "line end" in shown
    assert main(["runs", str(tmp_path)]) == 0
    assert len(lines(capsys)) == 2
    assert main(["runs", str(tmp_path), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["metrics"]["loss"] is None
    assert found["notFinite"] == {"loss": "nan", "accuracy": "inf"}
    assert found["parameters"]["deep"] == ["nan"]
    assert found["ended"] is None


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_text(""), "is not a folder"),
    ],
)
def test_a_folder_that_is_none(tmp_path, capsys, make, told):
    make(tmp_path / "none")
    assert main(["runs", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    assert "error[REQUEST]" in said
    assert told in said


METRICS = {
    Goal.MAX: """
        accuracy val_acc eval/accuracy test-acc@5 top5 top-1-accuracy valid_0_auc auroc train-aucpr
        pr_auc ROC_AUC f1 macro_f1 f0_5 f1_score fbeta F1Score bleu sacrebleu BLEU-4 rouge1 rougeL
        eval_rougeLsum rouge_2_f meteor map mAP mAP_50 mAP@0.5:0.95 map_50_95 mean_average_precision
        ndcg ndcg_at_10 NDCG@k mrr recall recall@20 recallat10 precision weighted_precision iou mIoU
        mean_iou dice val_dice psnr ssim ms_ssim r2 r2_score explained_variance mean_reward
        episode_return ep_rew/return score win_rate success_rate pass@1 exact_match em throughput
        tokens_per_s tokens/s samples_per_second train_steps_per_second it/s images_per_sec fps
        neg_mean_squared_error neg_log_loss log_likelihood elbo mcc cohen_kappa spearmanr_corr
        true_positive_rate true_negative_rate specificity clip_score hamming_score jaccard snr mfu
        balanced_accuracy MulticlassAccuracy steps/sec tokens/second pearsonr meanIoU mIOU
        AP50 tflops
    """,
    Goal.MIN: """
        loss val_loss eval_loss valLoss train/loss test-loss loss_epoch dice_loss iou_loss error
        error_rate merror train-mlogloss-mean binary_logloss log_loss err mae val_mae MSE rmse rmsle
        mape smape perplexity eval_perplexity ppl wer cer ter fid fid_score kid lpips nll
        negative_log_likelihood neg_log_likelihood cox-nloglik bpb bits_per_byte bpc latency
        latency_p99 time train_runtime seconds epoch_seconds step_time_ms seconds_per_step
        peak_memory memory_gb brier brier_score ece hamming_loss deviance gamma-deviance
        cross_entropy hinge_loss zero_one_loss 1-accuracy one_minus_auc false_positive_rate fpr
        false_negative_rate MeanSquaredError kl_divergence validation:loss hausdorff_distance
        top_1_error time_to_first_token sec/step fid50k KID word_error_rate
    """,
    None: "lr learning_rate epoch step grad_norm loss_scale temperature entropy x l2 rank fidelity",
}


@pytest.mark.parametrize(
    ("metric", "goal"), [(name, goal) for goal, names in METRICS.items() for name in names.split()]
)
def test_goals(metric, goal):
    """By the name; what is not known has none."""
    assert goal_of(metric) is goal


@pytest.fixture
def three(tmp_path):
    """Runs whose BLEU rises, falls and stays; and a metric that nobody knows."""
    for name, values in {
        "a": [10.0, 30.0, 20.0],
        "b": [25.0, 5.0],
        "c": [28.0, float("nan")],
    }.items():
        (tmp_path / name).mkdir()
        RunRecord(name=name, status="Completed").write(tmp_path / name / "run.json")
        rows = [
            json.dumps({"step": n, "bleu": one, "grad_norm": one}) for n, one in enumerate(values)
        ]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(rows))
    return tmp_path


def test_best_of_a_gain(three, capsys):
    """The greatest, not the worst; a value that is not a number is not one of them."""
    assert main(["runs", str(three), "--sort", "bleu"]) == 0
    assert [row.split()[0] for row in lines(capsys)[1:]] == ["a", "c", "b"]
    assert main(["runs", str(three), "--compare", "a", "b", "c"]) == 0
    rows = {line.strip().split("  ")[0]: line.split() for line in lines(capsys)}
    assert rows["best bleu"][2:] == ["30", "25", "28"]
    assert rows["first grad_norm"][2:] == ["10", "25", "28"]
    assert "best grad_norm" not in rows


def test_a_goal_that_is_given(three, capsys):
    words = ["runs", str(three), "--sort", "grad_norm"]
    assert main(words) == 2
    assert "--goal grad_norm=max" in capsys.readouterr().err
    assert main([*words, "--goal", "grad_norm=min"]) == 0
    assert [row.split()[0] for row in lines(capsys)[1:]] == ["b", "a", "c"]
    assert main([*words, "--goal", "bleu=min", "--goal", "grad_norm=max", "--json"]) == 0
    first, *_ = json.loads(capsys.readouterr().out)
    assert (first["name"], first["best"]) == ("a", {"bleu": 10.0, "grad_norm": 30.0})
    assert first["goals"] == {"bleu": "min", "grad_norm": "max"}


def test_a_goal_that_the_program_declares(three, capsys):
    """It wins over the name, and the command line over it; what is not a goal is none."""
    goals = {"bleu": "min", "grad_norm": "max"}
    RunRecord(name="b", status="Completed", goals=goals).write(three / "b" / "run.json")
    for words, first in (
        (["--sort", "bleu"], "b"),
        (["--sort", "grad_norm"], "a"),
        (["--sort", "grad_norm", "--goal", "grad_norm=min"], "b"),
    ):
        assert main(["runs", str(three), *words]) == 0
        assert lines(capsys)[1].split()[0] == first
    document = {"format": 1, "goals": {"a": "max", "b": "up", "c": 7}}
    assert RunRecord.parse(document, "run.json").goals == {"a": "max"}


@pytest.mark.parametrize("goal", ["bleu", "bleu=more", "=max", "nothing=max"])
def test_a_goal_that_is_none(three, capsys, goal):
    try:
        code = main(["runs", str(three), "--goal", goal])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert "fix: " in capsys.readouterr().err


def test_a_job_that_tracked_is_one_run(tmp_path, capsys):
    """The record of `byoc train` and what the program tracked, in the archive beside it."""
    make_run(tmp_path / "made", "own", rate=0.5, losses=[3.0, 0.5])
    job = tmp_path / "jobs" / "job"
    job.mkdir(parents=True)
    RunRecord(name="job", status="Failed", started=5.0, ended=7.0).write(job / "run.json")
    with tarfile.open(job / "output.tar.gz", "w:gz") as archive:
        for name in ("run.json", "metrics.jsonl"):
            archive.add(tmp_path / "made" / name, name)
    assert main(["runs", str(tmp_path / "jobs"), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["name"], found["status"]) == ("job", "Failed")
    assert (found["metrics"], found["parameters"]["rate"]) == ({"loss": 0.5}, 0.5)


@pytest.mark.slow
def test_directly_after_byoc_train(tmp_path, monkeypatch, capsys):
    """A program that tracks nothing: status, time and hyperparameters, without its secrets."""
    monkeypatch.chdir(tmp_path)
    for name, code in {"good": "print('loss: 0.5')", "bad": "raise SystemExit(3)"}.items():
        (tmp_path / f"{name}.py").write_text(code)
        words = ["--engine", "process", "--name", name, "--hp", "rate=0.1", "api_key=hush"]
        main(["train", f"{name}.py", *words])
    capsys.readouterr()
    assert main(["runs", "byoc-jobs", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert {name: one["status"] for name, one in found.items()} == {
        "good": "Completed",
        "bad": "Failed",
    }
    assert found["good"]["parameters"] == {"rate": "0.1", "api_key": "***"}
    assert found["good"]["ended"] > found["good"]["started"] > 0


def test_damaged_lines(tmp_path, capsys):
    """Half a line at the end of metrics is passed over."""
    make_run(tmp_path / "x", "cut", rate=1, losses=[1.0])
    with open(tmp_path / "x" / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "lo')
    assert main(["runs", str(tmp_path)]) == 0
    assert "cut" in lines(capsys)[1]


@pytest.mark.parametrize("value", ["x", True, None, [], {}, int("9" * 400)])
def test_a_metric_that_is_not_a_number_is_none(tmp_path, capsys, value):
    """Not 0, which would be the best of all losses."""
    for name, loss in (("good", 0.5), ("odd", value)):
        (tmp_path / name).mkdir()
        document = {"format": 1, "name": name, "started": 1, "metrics": {"loss": loss}}
        (tmp_path / name / "run.json").write_text(json.dumps(document))
    assert main(["runs", str(tmp_path), "--sort", "loss", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["name"], first["best"]) == ("good", {"loss": 0.5})
    assert (second["name"], second["metrics"]) == ("odd", {})


def test_two_runs_of_one_name_are_both_compared(tmp_path, capsys):
    make_run(tmp_path / "a", "same", rate=0.1, losses=[1.0])
    make_run(tmp_path / "b", "same", rate=0.5, losses=[2.0])
    assert main(["runs", str(tmp_path), "--compare", "same", "same"]) == 0
    head, *rows = lines(capsys)
    assert head.split() == ["same", "same"]
    assert ["loss", "1", "2"] in [row.split() for row in rows]


def test_a_hint_of_many_names_is_one_short_line(tmp_path, capsys):
    record = RunRecord(name="x", metrics={f"m\n{number}": 1.0 for number in range(500)})
    (tmp_path / "x").mkdir()
    record.write(tmp_path / "x" / "run.json")
    assert main(["runs", str(tmp_path), "--sort", "nope"]) == 2
    hint = capsys.readouterr().err.splitlines()[-1]
    assert hint.endswith("and 480 more")
    assert len(hint) < 300


@pytest.mark.parametrize(
    "metric", ["val_acc_std", "accuracy_drop", "f1_threshold", "loss_delta", "reward_gap"]
)
def test_what_is_about_another_metric_has_no_goal(metric):
    assert goal_of(metric) is None


@pytest.mark.parametrize("metric", ["rollout/ep_rew_mean", "HD95", "explained_variance", "crps"])
def test_goals_of_more_libraries(metric):
    assert goal_of(metric) is (Goal.MIN if metric in ("HD95", "crps") else Goal.MAX)
