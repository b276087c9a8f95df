"""The paper's baselines and two more, by scikit-learn, on the same spectra and folds; and by name the published nets.

Those of scikit-learn have no epoch to choose and learn from the training and the validation specimens together. Every
one starts with standardised points (mean 0, standard deviation 1 over its training spectra). No parameter was tuned.
`published.py` holds the nets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def _svm(seed: int) -> Any:
    from sklearn.svm import SVC  # type: ignore[import-untyped]

    return SVC(C=10.0)


def _logistic(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    return LogisticRegression(C=0.01, max_iter=1000)


def _neighbour(seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier  # type: ignore[import-untyped]

    return KNeighborsClassifier(1)


def _bpnn(seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier  # type: ignore[import-untyped]

    return MLPClassifier((64,), alpha=1e-3, max_iter=60, random_state=seed)


class _PcaLda:
    """Linear discriminant analysis on at most 50 principal components, a third of the spectra at most."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> _PcaLda:
        from sklearn.decomposition import PCA  # type: ignore[import-untyped]
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # type: ignore[import-untyped]

        self._pca = PCA(min(50, len(x) // 3, x.shape[1]), svd_solver="full").fit(x)
        self._lda = LinearDiscriminantAnalysis().fit(self._pca.transform(x), y)
        self.classes_ = self._lda.classes_
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        found: np.ndarray = self._lda.predict_proba(self._pca.transform(x))
        return found


class _PlsDa:
    """Partial least squares on one-hot classes (20 components), the largest output wins (Barker and Rayens, J.
    Chemometrics 17, 2003).
    """

    def fit(self, x: np.ndarray, y: np.ndarray) -> _PlsDa:
        from sklearn.cross_decomposition import PLSRegression  # type: ignore[import-untyped]

        self.classes_ = np.unique(y)
        self._pls = PLSRegression(min(20, *x.shape))
        self._pls.fit(x, (y[:, None] == self.classes_).astype(float))
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.classes_[self._pls.predict(x).argmax(axis=1)]
        return found


#: name -> (what it is, maker)
BASELINES: dict[str, tuple[str, Callable[[int], Any]]] = {
    "lda": ("linear discriminant analysis on 50 principal components", lambda seed: _PcaLda()),
    "svm": ("support vector machine, Gaussian kernel, C = 10", _svm),
    "logistic": ("logistic regression, C = 0.01", _logistic),
    "1-nn": ("nearest neighbour, Euclidean", _neighbour),
    "pls-da": ("partial least squares discriminant analysis, 20 components", lambda seed: _PlsDa()),
    "bpnn": ("back-propagation network, one hidden layer of 64 units", _bpnn),
}


#: name of a baseline -> what it is
NETS = {
    "cnn:a": "published CNN over the spectrum (litong96/LIBS-CNN), our reimplementation",
    "cnn:b": "published CNN on the spectrum as a picture (chhoumann/thesis-chemcam), our reimplementation",
}
KNOWN = (*BASELINES, *NETS)


def method_of(name: str) -> str:
    """The method's name in rows and summaries: `sk:NAME` for scikit-learn's."""
    return name if name in NETS else f"sk:{name}"


def is_baseline(method: str) -> bool:
    """Whether a row's method is a baseline, not a strategy."""
    return method in NETS or method.startswith("sk:")


def probabilities(
    name: str, x: np.ndarray, y: np.ndarray, test: np.ndarray, classes: int, seed: int
) -> tuple[np.ndarray, bool]:
    """(float64 [n, classes] of the test spectra, whether they are probabilities or 0 and 1 by the vote)."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
    from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

    scale = StandardScaler().fit(x)
    x, test = scale.transform(x), scale.transform(test)
    model = BASELINES[name][1](seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of steps is part of the baseline
        model.fit(x, y)
    known = model.classes_
    found = np.zeros((len(test), classes))
    if name in ("lda", "logistic", "bpnn"):
        found[:, known] = model.predict_proba(test)
        return found, True
    found[np.arange(len(test)), model.predict(test)] = 1
    return found, False
