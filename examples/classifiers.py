"""Which classifier for which data? Four methods on the data sets that come with scikit-learn.

The functions are plain Python; `comparison` writes down what shall be computed from what.
Nothing here says where or how it runs: see `demo.py` for that.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from functionfuse import workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SEED = 7

LOADERS: dict[str, Callable[..., Any]] = {
    "digits": datasets.load_digits,
    "wine": datasets.load_wine,
    "cancer": datasets.load_breast_cancer,
}

# a method and its parameters, under the name that it has in the table
METHODS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "logistic": (LogisticRegression, {"C": 0.5, "max_iter": 1000}),
    "svm": (SVC, {"C": 10.0, "gamma": "scale"}),
    "forest": (RandomForestClassifier, {"n_estimators": 200, "random_state": SEED}),
    "neighbours": (KNeighborsClassifier, {"n_neighbors": 5}),
}


class Samples(NamedTuple):
    """Measurements, one row a sample, and the class of each."""

    features: np.ndarray[Any, Any]
    classes: np.ndarray[Any, Any]


@workflow
def load(name: str) -> Samples:
    """Read a data set."""
    return Samples(*LOADERS[name](return_X_y=True))


@workflow
def split(samples: Samples, test_part: float) -> dict[str, Samples]:
    """Put a part of the samples aside, with the same share of each class."""
    features, test_features, classes, test_classes = train_test_split(
        *samples, test_size=test_part, stratify=samples.classes, random_state=SEED
    )
    return {"train": Samples(features, classes), "test": Samples(test_features, test_classes)}


@workflow
def train(samples: Samples, method: str, parameters: Mapping[str, Any]) -> Any:
    """Fit a model to scaled features."""
    make, _ = METHODS[method]
    return make_pipeline(StandardScaler(), make(**parameters)).fit(*samples)


@workflow
def score(model: Any, samples: Samples) -> float:
    """The share of samples that the model gets right, where every class counts the same."""
    return float(balanced_accuracy_score(samples.classes, model.predict(samples.features)))


@workflow
def confusion(model: Any, samples: Samples) -> np.ndarray[Any, Any]:
    """How often a class (row) is taken for another one (column)."""
    return np.asarray(confusion_matrix(samples.classes, model.predict(samples.features)))


@workflow
def summarize(scores: Mapping[str, Mapping[str, float]]) -> str:
    """The scores as a table, one line a data set."""
    lines = ["".join([f"{'':10}", *(f"{method:>12}" for method in METHODS), f"{'best':>14}"])]
    for data, row in scores.items():
        best = max(row, key=lambda method: row[method])
        cells = [f"{row[method]:12.3f}" for method in METHODS]
        lines.append("".join([f"{data:10}", *cells, f"{best:>14}"]))
    return "\n".join(lines)


@workflow
def draw(
    scores: Mapping[str, Mapping[str, float]], mistakes: np.ndarray[Any, Any], path: str
) -> str:
    """Save a figure: the scores as bars, and what one digit is taken for."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    bars, matrix = figure.subplots(1, 2, width_ratios=(3, 2))
    places = np.arange(len(scores))
    for shift, method in enumerate(METHODS):
        heights = [row[method] for row in scores.values()]
        bars.bar(places + 0.2 * shift, heights, width=0.19, label=method)
    bars.set(title="Balanced accuracy on unseen samples", ylim=(0.8, 1.04))
    bars.set_xticks(places + 0.3, list(scores))
    bars.legend(loc="upper center", ncols=len(METHODS))
    matrix.imshow(np.log1p(mistakes), cmap="Blues")
    matrix.set(title="Digits, SVM", xlabel="predicted", ylabel="written")
    matrix.set_xticks(range(len(mistakes)))
    matrix.set_yticks(range(len(mistakes)))
    for (row, column), count in np.ndenumerate(mistakes):
        if count:
            color = "white" if row == column else "black"
            matrix.text(column, row, count, ha="center", va="center", color=color)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def comparison(figure: str) -> tuple[Any, Any]:
    """Write down the comparison; nothing runs.

    Args:
        figure: Where the figure shall be saved.

    Returns:
        The node of the table, and that of the figure.
    """
    models: dict[str, dict[str, Any]] = {}
    scores: dict[str, dict[str, Any]] = {}
    parts: dict[str, Any] = {}
    for data in LOADERS:
        samples = load(data).set_name(data)
        parts[data] = split(samples, test_part=0.3).set_name(f"{data}-split")
        models[data], scores[data] = {}, {}
        for method, (_, parameters) in METHODS.items():
            name = f"{data}-{method}"
            model = train(parts[data]["train"], method, parameters).set_name(f"{name}-model")
            models[data][method] = model
            scores[data][method] = score(model, parts[data]["test"]).set_name(f"{name}-score")
    mistakes = confusion(models["digits"]["svm"], parts["digits"]["test"])
    table = summarize(scores).set_name("table")
    drawing = draw(scores, mistakes.set_name("digits-svm-confusion"), figure).set_name("figure")
    return table, drawing
