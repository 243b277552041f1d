"""A peer of bench_kmeans (peer.h says how they talk): scikit-learn, called as
SqueezeLLM's published program calls it, or where it is not installed the same
in NumPy, k-means++ and 50 iterations of Lloyd's algorithm on sorted values.

    peer_kmeans.py THREADS FILE

FILE holds float64 of [16, 2, 4096]: values and weights of a row, of which a
job takes the first.  Beside `go`, `error` is answered with the sum over rows.
"""
import os
import sys

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = sys.argv[1]

import numpy  # noqa: E402

from peer_turn import turn  # noqa: E402
try:
    import sklearn  # noqa: E402
    from sklearn.cluster import KMeans  # noqa: E402
    NAME = "scikit-learn " + sklearn.__version__
except ImportError:
    KMeans = None
    NAME = "NumPy " + numpy.__version__

ROWS = numpy.fromfile(sys.argv[2]).reshape(16, 2, 4096)


def library_sum(x, w, clusters):
    found = KMeans(n_clusters=clusters, random_state=0, n_init=1, max_iter=50)
    return found.fit(x.reshape(-1, 1), sample_weight=w).inertia_


def plain_sum(x, w, clusters):
    random = numpy.random.RandomState(0)
    order = numpy.argsort(x)
    x, w = x[order], w[order]
    nearest = numpy.full(len(x), numpy.inf)
    centroids = []
    for _ in range(clusters):
        chance = w if not centroids else w * nearest
        centroids.append(x[random.choice(len(x), p=chance / chance.sum())])
        nearest = numpy.minimum(nearest, (x - centroids[-1]) ** 2)
    centroids = numpy.sort(centroids)
    tolerance = 1e-4 * numpy.var(x)
    for _ in range(50):
        labels = numpy.searchsorted((centroids[1:] + centroids[:-1]) / 2, x)
        weights = numpy.bincount(labels, w, clusters)
        sums = numpy.bincount(labels, w * x, clusters)
        means = numpy.where(weights > 0, sums / numpy.maximum(weights, 1e-300),
                            centroids)
        moved = ((means - centroids) ** 2).sum()
        centroids = means
        if moved <= tolerance:
            break
    labels = numpy.searchsorted((centroids[1:] + centroids[:-1]) / 2, x)
    return (w * (x - centroids[labels]) ** 2).sum()


class Clusters:
    def __init__(self, n, clusters):
        self.n, self.clusters, self.sum = n, clusters, 0

    def __call__(self):
        self.sum = 0
        for values, weights in ROWS[:, :, :self.n]:
            self.sum += (library_sum if KMeans else plain_sum)(
                values, weights, self.clusters)


def main():
    job = None
    print(NAME, flush=True)
    for line in sys.stdin:
        word, *numbers = line.split()
        if word == "go":
            print("%.9f %.9f" % turn(job, float(numbers[0])), flush=True)
        elif word == "error":
            print("%.17g" % job.sum, flush=True)
        elif word == "kmeans":
            job = Clusters(*map(int, numbers))
            print("ready", flush=True)
        else:
            print("none", flush=True)


main()
