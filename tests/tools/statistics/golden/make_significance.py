#!/usr/bin/env python3
"""significance.json: random samples, and what SciPy, scikit-learn and the definition of DeLong's variance say of them.

    python make_significance.py     (with scipy >= 1.11 and scikit-learn)

Scores have one or two decimals, so that many are tied.
"""

import json
import pathlib

import numpy
import sklearn
import scipy
from scipy import stats
from sklearn.metrics import roc_auc_score


def t_test(result, difference):
    low, high = result.confidence_interval(0.95)
    return {"difference": difference, "t": result.statistic, "df": result.df, "p": result.pvalue, "low": low, "high": high}


def components(labels, scores):
    """Of positives and of negatives, all pairs compared [DeLong1988, eq. 2]."""
    high, low = scores[labels == 1][:, None], scores[labels == 0][None, :]
    won = (high > low) + 0.5 * (high == low)
    return won.mean(axis=1), won.mean(axis=0)


def delong(labels, a, b):
    (pa, na), (pb, nb) = components(labels, a), components(labels, b)
    variance = numpy.var(pa - pb, ddof=1) / len(pa) + numpy.var(na - nb, ddof=1) / len(na)
    auc_a, auc_b = roc_auc_score(labels, a), roc_auc_score(labels, b)
    z = (auc_a - auc_b) / numpy.sqrt(variance)
    half = stats.norm.ppf(0.975) * numpy.sqrt(variance)
    return {"auc_a": auc_a, "auc_b": auc_b, "z": z, "p": 2 * stats.norm.sf(abs(z)), "low": auc_a - auc_b - half,
            "high": auc_a - auc_b + half}


def main():
    random = numpy.random.default_rng(1)
    document = {"scipy": scipy.__version__, "sklearn": sklearn.__version__, "means": [], "aucs": []}
    for case in range(40):
        a = numpy.round(random.normal(0.88, 0.05, random.integers(2, 15)), 2 + case % 3)
        b = numpy.round(random.normal(0.91, 0.03, len(a) if case % 2 else random.integers(2, 15)), 2 + case % 3)
        if numpy.ptp(a) == 0 or numpy.ptp(b) == 0 or (case % 2 and numpy.ptp(a - b) == 0):
            continue
        entry = {"a": a.tolist(), "b": b.tolist(),
                 "welch": t_test(stats.ttest_ind(a, b, equal_var=False), a.mean() - b.mean())}
        if case % 2:
            entry["paired"] = t_test(stats.ttest_rel(a, b), a.mean() - b.mean())
        document["means"].append(entry)
    for case in range(40):
        labels = numpy.concatenate([[0, 0, 1, 1], random.integers(0, 2, random.integers(8, 60))])
        truth = labels + random.normal(0, 1, len(labels))
        a = numpy.round(truth + random.normal(0, 0.5, len(labels)), 1 + case % 2)
        b = numpy.round(truth + random.normal(0, 1.0, len(labels)), 1 + case % 2)
        document["aucs"].append({"labels": labels.tolist(), "a": a.tolist(), "b": b.tolist(), "delong": delong(labels, a, b)})
    pathlib.Path(__file__).with_name("significance.json").write_text(json.dumps(document, separators=(",", ":"), default=float) + "\n")


if __name__ == "__main__":
    main()
