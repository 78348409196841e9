"""Our topics as a BERTopic model, for whoever uses what has grown around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertopic import BERTopic

    from feedback_lib.analysis.topics import TopicModel, Vectors


def as_bertopic(texts: Sequence[str], vectors: Vectors, model: TopicModel) -> BERTopic:
    """The topics as a fitted BERTopic model: same texts, same numbers, our words and names.

    What BERTopic makes of texts, topics and words works on it (``get_topic_info``, ``get_topics``,
    ``hierarchical_topics``, ``visualize_barchart``, ``topics_over_time``; our names are its custom labels). Nothing is
    clustered again, and neither torch nor umap nor hdbscan is needed. Loading BERTopic takes some seconds.

    Args:
        texts: The n texts the model was fitted on.
        vectors: Shape (n, d), theirs.
        model: As `topics.fit` returned it, with at least one topic.

    Source: Grootendorst 2022 (BERTopic, "manual topic modeling").
    """
    from bertopic import BERTopic
    from bertopic.backend import BaseEmbedder
    from bertopic.cluster import BaseCluster
    from bertopic.dimensionality import BaseDimensionalityReduction
    from bertopic.vectorizers import ClassTfidfTransformer
    from sklearn.feature_extraction.text import CountVectorizer

    if not model.names:
        raise ValueError("the model holds no topic")
    made = BERTopic(
        embedding_model=BaseEmbedder(),
        umap_model=BaseDimensionalityReduction(),
        hdbscan_model=BaseCluster(),
        vectorizer_model=CountVectorizer(stop_words="english", ngram_range=(1, 2)),
        ctfidf_model=ClassTfidfTransformer(reduce_frequent_words=True),
        verbose=False,
    )
    numbers = model.labels.tolist()
    made._sort_mappings_by_frequency = lambda documents: documents  # its numbers are ours, also where sizes are equal
    made.fit(list(texts), embeddings=vectors, y=numbers)
    del made._sort_mappings_by_frequency
    made.topic_representations_.update(_weighed(made, model))
    made.set_topic_labels(dict(enumerate(model.names)))
    made.topic_embeddings_[-len(model.names) :] = model.centroids
    return made


def _weighed(made: Any, model: TopicModel) -> dict[int, list[tuple[str, float]]]:
    """Our words with weights of BERTopic's; where it does not know a term, a little less than the term before."""
    column = made.vectorizer_model.vocabulary_
    table = made.c_tf_idf_.tocsr()
    first = table.shape[0] - len(model.names)  # the row of topic -1 is above, where there is one
    found: dict[int, list[tuple[str, float]]] = {}
    for label, terms in enumerate(model.words):
        weights, least = [], 1.0
        for term in terms:
            at = column.get(term.lower())
            known = float(table[first + label, at]) if at is not None else 0.0
            least = min(least, known) if known else least * 0.9
            weights.append((term, least))
        found[label] = weights or [("", 1e-5)]
    return found
