"""What kind of signal a text is, which of the five labels it carries, how it feels and how bad it is.

Linear models on a sentence vector and a few dozen counted expressions, trained on ``data/labelled.jsonl`` (short texts
written by hand for this package) and on what an analyst said about their own signals. The models say nothing (null)
where cross-validation shows they would be guessing, or where the analyst's texts show that they are wrong too often.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import polars as pl
from threadpoolctl import threadpool_limits

from feedback_lib.analysis.rates import wilson
from feedback_lib.records import Category, DxLabel

Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]
Floats = npt.NDArray[np.float64]

METHOD = "triage-2"  # change it with anything below that changes a prediction
CATEGORIES: tuple[str, ...] = get_args(Category)
DX_LABELS: tuple[str, ...] = get_args(DxLabel)
NONE = "none"  # the answer "carries none of the five labels": learnt like a label, shown as null

FOLDS = 5
PRECISION = 0.77  # asked of each label among the labelled texts; other people's texts are harder
FLOOR = 0.45  # no label is given under this probability
WEIGHTS = (0.0, 2.0, 8.0)  # of a text of the analyst beside one of the package; cross-validation takes one
FELT, SEVERE = 0.25, 0.5  # between the steps that people choose from, see `in_words`
IN_WORDS = {"sentiment": ("negative", "neutral", "positive"), "severity": ("mild", "severe")}
SAY = 25.0  # likewise when scores are calibrated: fifty say as much as all of the package's
REVIEWED = ("text", "category", "dx_label", "sentiment", "severity_score", "chosen")  # columns, see `train`
READ = 1_500  # characters in which expressions are counted; the sentence vector reads about as many
LONG, THIN = 250, 0.2  # see `_expressions`
STRENGTH = 0.3  # inverse of the regularisation of the classifiers
RIDGE = 30.0
VECTOR_SCALE, COUNT_SCALE, WORD_SCALE = 4.0, 0.3, 1.0  # weights of the kinds of features beside each other
BLOCK = 5_000  # texts judged at a time: about 25 MB
_TEMPERATURES = np.geomspace(0.25, 4, 65)

# ---- counted expressions ------------------------------------------------------------------------------------------
# Matched in lower case; at most three matches of each count.

_POSITIVE = (
    r"good|great|nice|nicely|love|loved|loving|lovely|like|awesome|amazing|excellent|perfect|perfectly|fantastic|"
    r"wonderful|brilliant|superb|outstanding|delight|delighted|delightful|joy|happy|glad|thrilled|impressed|impressive|"
    r"pleased|pleasure|pleasant|enjoy|enjoyed|enjoyable|easy|easier|elegant|beautiful|gorgeous|flawless|flawlessly|"
    r"smooth|smoothly|helpful|useful|best|better|fun|clean|polished|reliable|stable|solid|fast|faster|quick|quicker|"
    r"kudos|bravo|congrats|congratulations|cheers|recommend|painless|intuitive|clever|works well|rocks"
)
_NEGATIVE = (
    r"bad|terrible|horrible|awful|worst|worse|hate|hated|useless|unusable|annoying|annoyed|frustrating|frustrated|"
    r"frustration|confusing|confused|disappointed|disappointing|disappointment|ridiculous|pathetic|garbage|crap|sucks|"
    r"rubbish|mess|disaster|nightmare|painful|pain|tedious|clunky|cumbersome|awkward|sad|sadly|unfortunately|unhappy|"
    r"angry|furious|broken|breaks|broke|crash|crashed|crashes|crashing|bug|bugs|buggy|fail|failed|fails|failing|failure|"
    r"error|errors|problem|problems|issue|issues|complaint|complaints|wrong|lost|loses|losing|slow|slower|stuck|freezes|"
    r"frozen|hangs|unacceptable|unreliable|cluttered|desperate|urgent|mediocre|silly|hostile|outage|surprises|"
    r"expensive|overpriced|cancelling|canceling|leaving|dislike|disliked|dread|misery|misleading"
)
_NOT = (
    r"(?:not|no|never|none|nothing|nobody|without|hardly|zero|isn'?t|wasn'?t|aren'?t|don'?t|doesn'?t|didn'?t|"
    r"can'?t|cannot|couldn'?t|won'?t|wouldn'?t|haven'?t|hasn'?t)"
)
_BETWEEN = (
    r"(?:[ ,]+(?:a|an|the|any|at|all|single|one|so|too|very|really|that|much|even|been|be|of|to|have|had|"
    r"having|seen|failed|lost|support|as)){0,3} +"
)
_TROUBLE = (
    r"crash\w*|broken?|breaks|bugs?|fail(?:s|ed|ing|ure|ures)?|errors?|freez\w*|frozen|hangs?|timeouts?|not work\w*|"
    r"doesn'?t work|nothing (?:works|prints|happens)|stopped|lost|loses|forgets|gone|disappear\w*|clears itself|"
    r"outage|down|404|500|crap|waiting|spinning|delet(?:es|ed|ing)|(?:can'?t|cannot|won'?t|does(?:n'?t| not)|not) "
    r"(?:even )?(?:start|open|load|work|log|save|print|respond|connect|finish)\w*"
)

_MOCKERY = (
    # "great, it crashed again"
    r"(?:^|[.!?\n] *)(?:oh |wow,? |so |just )*(?:great|wonderful|brilliant|nice|lovely|fantastic|awesome|perfect|bravo|"
    r"thanks|congratulations|love (?:how|that|it when)|i (?:just )?love|so glad|glad i paid|good job|well done)\b"
    rf"[^?\n]{{0,80}}\b(?:{_TROUBLE}|again|more clicks|moved)\b"
    # "Another outage. Fantastic."
    rf"|\b(?:{_TROUBLE})\b[^.!?\n]{{0,30}}[.!] *(?:just |how |simply |oh )?"
    r"(?:fantastic|brilliant|wonderful|great|lovely|perfect|awesome|impressive|genius|well done|slow clap|nice|bravo)"
    r"[.! ]*(?:$|\n)"
    r"|\bjust what i needed\b|\bsaid (?:nobody|no one)\b|, they said\b|\bwhatever that (?:is|means)\b"
    r"|\boh,? (?:nice|great|brilliant|lovely|joy)\b|\bslow clap\b|\bdo you (?:even )?test\b"
)

_COUNTS: dict[str, str] = {
    # asking
    "question mark": r"\?",
    "first sentence asks": r"^[^.!?\n]*\?",
    "last sentence asks": r"\?[\s)\"]*$",
    "asks how": r"\bhow (?:do|does|can|could|would|should|to|is|are|am|long|many|much|one)\b",
    "asks what": (
        r"(?:^|[.!?:\n,] *)(?:what|where|which|who|when|is it|is there|are there|can i|can we|can the|can two|"
        r"does|do (?:i|you|we)|should i|may i|am i|are you|has any|will|any way)\b"
    ),
    "asks why": r"(?:^|[.!?:\n,] *)why\b",
    "curious": (
        r"\b(?:wonder(?:ing)?|question|any(?:one|body) know|would like to know|like to understand|"
        r"want to understand|explain|recommended way|best way|correct way|right way|advice|tell me|point me|"
        r"not sure (?:whether|if)|steps)\b"
    ),
    # wishing
    "please add": (
        r"\bplease (?:\w+ )?(?:add|allow|make|bring|support|provide|consider|implement|let|offer|include|enable|"
        r"restore|introduce|give|build|open|publish|put back)\b"
    ),
    "would be nice": (
        r"\b(?:would|'d|could|it'?d) (?:also |really |just )?be (?:\w+ )?(?:nice|great|good|cool|lovely|useful|"
        r"helpful|welcome|better|awesome|handy|huge)\b|\bwould (?:help|make sense|save)\b"
    ),
    "wish": (
        r"\b(?:wish|hoping|i'?d (?:like|love|pay)|would (?:like|love) to (?:see|have|be able)|i want to|want a|"
        r"need a|we need|miss(?:ing)?|suggest(?:ion)?|idea|proposal|rfc|enhancement|request(?:s|ing)?|lack(?:s|"
        r"ing)?|ability to|should be (?:possible|able|adjustable|configurable|a setting))\b"
    ),
    "feature word": r"\bfeature(?: request|:|\])|\brequest:|\bfeature$|\[feature",
    "support for": (
        r"\b(?:add(?:ing)?|support(?: for)?|option(?:ally)?|allow(?:ing)?|ability|integration|expose|extend|"
        r"implement|enable|introduce|provide|configurable|custom)\b"
    ),
    "starts with a wish": (
        r"(?:^|\n)\W*(?:feature\W+|suggestion\W+|request\W+|enhancement\W+)?(?:add|allow|support|make|let|provide|"
        r"offer|introduce|expose|extend|enable|implement|improve|replace|remove|upgrade|refactor|consider|give|"
        r"use|move|show|option|ability|request)\b"
    ),
    "could you": (
        r"\b(?:could|can|would) (?:you|we|this|it|the) (?:please |possibly )?(?:add|support|have|get|be|publish|"
        r"make|consider|offer|provide|bring|show)\b|\bwould it be possible\b|\bis it planned\b|\bany (?:chance|"
        r"plans)\b"
    ),
    # going wrong
    "trouble": rf"\b(?:{_TROUBLE})\b",
    "cannot": (
        r"\b(?:can'?t|cannot|could not|couldn'?t|unable|not able|won'?t|will not|wont|doesn'?t|does not|doesnt|"
        r"isn'?t|don'?t) (?:\w+ )?(?:open|start|load|log|send|receive|connect|install|work|sync|print|save|delete|"
        r"find|see|get|access|download|import|show|run|build|show|respond|update|display|move|remove|appear|"
        r"arrive)\w*"
    ),
    "no longer": (
        r"\b(?:no longer|any ?more|stopped|suddenly|since (?:the|last|yesterday|this|monday|tuesday|your|version|"
        r"\d)|after (?:the |an |my |last )?(?:\w+ )?(?:update|upgrad\w+)|used to|worked (?:in|until|fine|before|"
        r"yesterday)|regression|all of a sudden|disappeared|vanished|gone)\b"
    ),
    "error text": (
        r"\b\w*(?:error|exception)\b ?:|traceback|stack ?trace|segmentation fault|core dumped|undefined|"
        r"null pointer|exit code|\b0x[0-9a-f]{4,}|\b[45]\d\d\b (?:error|for|on|from|when)|errno|oom|panic|"
        r"assertion"
    ),
    "seeks help": (
        r"\b(?:any (?:idea|hint|help|advice|suggestion)s?|help(?: me| needed|!|\?)|please help|what am i (?:doing|"
        r"missing)|doing wrong|missing something|am i missing|point me|(?:could|can) (?:some|any)(?:one|body)|"
        r"does any(?:one|body)|is (?:this|that|it) (?:normal|expected|possible|on purpose|intended|a bug)|"
        r"i(?:'m| am) (?:trying|new|not sure|wondering|using)|i (?:try|tried|want|would like|followed|guess|suppose|"
        r"need) ?(?:to)?|thanks in advance|how (?:can|do|should) (?:i|we))\b"
    ),
    "steps": (
        r"\b(?:steps|repro\w*|expected|actual(?:ly)?|current behaviou?r|how often|minimal example|environment|"
        r"version:|what happened|did you expect)\b"
    ),
    "wrong": (
        r"\b(?:wrong(?:ly)?|incorrect(?:ly)?|bug|broken|invalid|corrupt\w*|duplicate[sd]?|missing|blank|empty|"
        r"ignored|instead of|but (?:got|it)|should(?:n'?t| not)|not (?:\w+ )?work\w*|doesn'?t work|fails?|failed|"
        r"failing|crash\w*)\b"
    ),
    # documentation
    "documentation": (
        r"\b(?:docs?|documentation|documented|undocumented|document|readme|manual|man page|guide|tutorials?|"
        r"docstrings?|changelog|release notes|wiki|faq|help (?:page|centre|center|text)s?|knowledge base|"
        r"reference|cookbook|glossary|whitepaper|quickstart|article|instructions?|chapter|api reference)\b"
    ),
    "documents poorly": (
        r"\b(?:not (?:documented|explained|mentioned|described|written|listed)|undocumented|out ?dated?|"
        r"out of date|stale|broken link|dead link|typo|clarify|explain(?:s|ed)?|mention(?:s|ed)?|example|examples|"
        r"says?|describe[sd]?|isn'?t (?:documented|explained|mentioned|described|listed|written)|never says?|"
        r"leaves? out|no example|sample code|code sample)\b"
    ),
    # handling
    "handling": (
        r"\b(?:clicks?|menus?|buttons?|screens?|layout|ui|ux|design|redesign|navigation|interface|icons?|tabs?|"
        r"dialog|panel|look|view|workflow|boilerplate|setup|scroll|font|colou?rs?|hidden|hunt|find|tell which|"
        r"naming|defaults?)\b"
    ),
    "hard to use": (
        r"\b(?:confus\w+|unintuitive|not (?:\w+ )?(?:intuitive|obvious|clear)|hard to|difficult|tedious|clunky|"
        r"awkward|cumbersome|clutter\w*|overwhelming|too many|too much|too small|each time|every time|have to|"
        r"has to|having to|takes? (?:forever|me|five|\w+ clicks)|fiddly|painful|a pain|chore|annoying|unreadable|"
        r"cramped|friction|lost|maze|inconsistent|by hand|complicated|learning curve|odd|don'?t like|"
        r"used to see)\b"
    ),
    # praise
    "praise": rf"\b(?:{_POSITIVE})\b",
    "strong praise": (
        r"\b(?:love|amazing|awesome|excellent|perfect|fantastic|wonderful|brilliant|superb|outstanding|best|"
        r"incredible|magnificent|kudos|bravo|hats off|thank you so much|five stars|10/10|flawless|rocks|wow|"
        r"well done|good job|nice work|great (?:work|job|stuff|tool))\b"
    ),
    "thanks": r"\b(?:thanks?|thank you|thx|ty|cheers|appreciate|grateful)\b",
    "exclamation mark": r"!",
    "but": r"\b(?:but|however|although|except|only|unfortunately|though|still|yet)\b",
    # direction
    "market": (
        r"\b(?:competit\w+|rivals?|vendors?|providers?|market\w*|incumbents?|suppliers?|procurement|purchasing|"
        r"tender|rfp|resellers?|partners?|industry|segment|customers)\b"
    ),
    "money": (
        r"\b(?:pric(?:e|es|ed|ing)|renew\w*|contracts?|licen[cs]e\w*|budget|cost(?:s|ed)?|per-seat|usage-based|"
        r"revenue|subscri\w+|invest\w*|margin|deal|deals|business|enterprise|finance|profitable|sell|buy|"
        r"buyers?)\b"
    ),
    "leaving": (
        r"\b(?:cancel(?:l?ing|l?ed)?|leav(?:e|ing)|left|switch(?:ed|ing)? (?:to|from|away)|migrat\w+|mov(?:e|ed|"
        r"ing) (?:to|from|over|off|away)|moving|exit|replace|alternative|standardi[sz]e\w*|chose|choose|"
        r"evaluat\w+|look for another|going back to|went with|dropped|lock-in)\b"
    ),
    "direction": (
        r"\b(?:strateg\w+|road ?map|long[- ]term|future|architect\w+|ecosystem|direction|platform|board|cto|"
        r"management|company|companies|next (?:year|generation|five)|decade|in (?:two|three|five|ten) years|"
        r"regulators?|compliance|data (?:centre|center|residency)|sovereign\w*|open source|open standard|"
        r"self-host\w+|on-premise|group|wide)\b"
    ),
    # how bad
    "loss": (
        r"\b(?:lost (?:all|my|a|the|our|\w+ (?:of|years))|los(?:t|ing) (?:\w+ )?(?:data|mails?|e-?mails?|"
        r"messages?|files?|work|transactions)|data loss|vanished|wiped|deleted (?:all|every)|(?:all|everything|"
        r"whole) .{0,40}(?:gone|lost|deleted|vanished|removed|disappeared)|corrupt\w*|removed the whole|erased|"
        r"wipe[ds]?|overwritten|deleted by|ate (?:two|my|all)|wrote nothing|unrecoverable)\b"
    ),
    "outage": (
        r"\b(?:outage|is down|are down|went down|goes down|unreachable|production|503|urgent\w*|emergency|"
        r"critical|data ?base refuses|(?:charged|taken|paid|billed) twice|all (?:our )?(?:users|tenants|services)|"
        r"for (?:everybody|everyone)|whole (?:region|team|company)|every request|nobody can|all customers)\b"
    ),
    "security": (
        r"\b(?:security|vulnerab\w+|leak(?:s|ed|ing)?|exposed|plain ?text|breach|privacy problem|somebody else'?s|"
        r"someone else'?s|other (?:users'?|customers'?|people'?s)|unauthori[sz]ed|injection|exploit|xss|cve|"
        r"disabled users|clear ?text|remote code|attacker|taken over|guess(?:ing)? the|(?:another|other) customer|"
        r"stranger\w*|private (?:documents?|files?|data|messages?|photos?|channels?|repos\w*)|"
        r"without (?:a )?(?:password|login)|privacy|anyone (?:in|can|could))\b"
    ),
    "blocked": (
        r"\b(?:crash\w*|blocked|blocking|unusable|can'?t (?:log|open|send|work|install|connect|start|use)|cannot|"
        r"unable|not able|fail(?:s|ed|ing)?|freezes|hangs|refuse[sd]?|rejects?|rejected|never arrive|deadlock\w*|"
        r"oom|segmentation|stuck|broken|stopped|won'?t|not receiv\w+|doesn'?t (?:start|open|work)|no way)\b"
    ),
    "cosmetic": (
        r"\b(?:typo|cosmetic|pixel|blurry|tiny|minor|small thing|nit|colou?r|alignment|stretched|logo|spelling|"
        r"plural|footer|nice to have|formatting|icon)\b"
    ),
    # shape
    "first person": r"\b(?:i|my|me|we|our|us)\b",
    "negation": rf"\b{_NOT}\b",
    "mockery": _MOCKERY,
    "code": r"`|\(\)|::|--\w|\b[a-z]+[._][a-z_]+\(|\.(?:py|js|ts|cpp|java|h)\b",
}

_UNSURPASSED = (
    r"\b(?:can'?t|cannot|couldn'?t|could not) (?:live without|complain|be (?:easier|happier|better|simpler|"
    r"faster)|recommend)\b|\bno complaints?\b|\bnothing to (?:improve|complain)\b|\bnothing broke\b|"
    r"\bno problems?\b"
)


_WORDS: dict[str, str] = {
    "good": rf"\b(?:{_POSITIVE})\b",
    "good, negated": rf"\b{_NOT}{_BETWEEN}(?:{_POSITIVE})\b",
    "good, double": _UNSURPASSED,
    "bad": rf"\b(?:{_NEGATIVE})\b",
    "bad, negated": rf"\b{_NOT}{_BETWEEN}(?:{_NEGATIVE})\b",
}


def lexicon(texts: Sequence[str]) -> Floats:
    """How good or bad the words of each text sound, negation and mock praise considered.

    Returns:
        Shape (n,), -1 to 1; 0 where no word of the lists occurs. A good word counts +1, a bad one -1; negated, the
        other way round; praise in one breath with trouble ("great, it crashed again") counts as mockery.

    >>> lexicon(["Not bad at all.", "not good", "Great, it crashed again", "the folder list"]).round(2).tolist()
    [0.5, -0.5, -0.75, 0.0]
    """
    return _expressions(texts)[1]


def _expressions(texts: Sequence[str]) -> tuple[Floats, Floats]:
    """Counted expressions, shape (n, k), each column one expression, and the lexicon's score, shape (n,)."""
    lower = pl.Series("text", texts, dtype=pl.String).str.slice(0, READ).str.to_lowercase().str.replace_all("’", "'")
    patterns = _COUNTS | _WORDS
    frame = lower.to_frame().select(
        *(pl.col("text").str.count_matches(pattern).alias(name) for name, pattern in patterns.items()),
        pl.col("text").str.len_chars().alias("length"),
    )
    raw = {name: frame[name].to_numpy().astype(np.float64) for name in frame.columns}
    mocking = np.minimum(raw["mockery"], 1)
    good = raw["good"] - 2 * raw["good, negated"] + raw["good, double"]
    bad = raw["bad"] - 2 * raw["bad, negated"]
    total = np.where(mocking > 0, -np.abs(good) - np.abs(bad) - 1, good - bad)
    raw["praise"] = np.maximum(good, 0)
    for name in ("praise", "strong praise", "thanks"):  # mock praise is no praise
        raw[name] = raw[name] * (1 - mocking)
    # a long text holds more of everything: beyond LONG characters an expression counts for less
    thinned = (LONG / np.maximum(raw["length"], LONG)) ** THIN
    columns = [np.log1p(np.minimum(raw[name], 3)) * thinned for name in (*_COUNTS, "good, negated", "bad, negated")]
    columns.append(np.log1p(np.minimum(raw["length"], LONG)))
    counts = np.stack(columns, axis=1)
    return counts, total / (1 + np.abs(total))


# ---- training -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Labelled:
    """The texts the models learn from and what a person said about them; ``sha256`` of the file names the version."""

    texts: tuple[str, ...]
    category: npt.NDArray[np.str_]
    dx_label: npt.NDArray[np.str_]  # ``none`` where the text carries none of the five
    sentiment: Floats
    severity: Floats
    sha256: str


def labelled() -> Labelled:
    """The labelled texts that ship with the package."""
    content = (importlib.resources.files("feedback_lib") / "data" / "labelled.jsonl").read_bytes()
    rows = pl.read_ndjson(io.BytesIO(content))
    return Labelled(
        texts=tuple(rows["text"]),
        category=np.array(rows["category"].to_list()),
        dx_label=np.array(rows["dx_label"].fill_null(NONE).to_list()),
        sentiment=rows["sentiment"].cast(pl.Float64).to_numpy(),
        severity=rows["severity"].cast(pl.Float64).to_numpy(),
        sha256=hashlib.sha256(content).hexdigest(),
    )


@dataclasses.dataclass(frozen=True)
class _Classifier:
    """A linear classifier with calibrated scores and the score each label needs to be given."""

    labels: tuple[str, ...]
    weights: Floats  # (features, labels), temperature applied
    bias: Floats  # (labels,)
    thresholds: Floats  # (labels,); above 1 for ``none``, which is never given

    def scores(self, features: Floats) -> Floats:
        return _softmax(features @ self.weights + self.bias)

    def predict(self, features: Floats) -> tuple[list[str | None], Floats]:
        """The label of each row, None where it is unsure, and the score of the likeliest label."""
        scores = self.scores(features)
        best = scores.argmax(axis=1)
        top = scores[np.arange(len(best)), best]
        sure = top >= self.thresholds[best]
        return [self.labels[b] if s else None for b, s in zip(best, sure, strict=True)], top


@dataclasses.dataclass(frozen=True)
class Triage:
    """Trained models; make one with `train`. What they are worth was measured on texts they had not seen.

    Attributes:
        version: the method, the labelled texts, the reviewed texts and the encoder; stands in every row inferred.
        quality: a row per category and DX label: kind (``category`` or ``dx_label``), label, precision (None when it
            was never given), recall, n (labelled texts that carry it), abstained_ratio (the share of those n for which
            nothing was said). By 5-fold cross-validation on the package's texts; calibration and thresholds come from
            the other folds too.
        reviewed_quality: the same on the analyst's texts that were drawn at random, each judged by models that had
            not seen it, `judged` says in which columns. ``precision_without`` and ``recall_without`` are of the models
            before any of the analyst's texts; a label that is ``withheld`` is never given. Empty without such texts.
        weight: what a text of the analyst counted beside one of the package, by kind.
        abstained: by kind, the share for which nothing was said of the texts that carry a category or DX label.
        correlation: of sentiment and of severity with what a person said (Pearson).
    """

    version: str
    quality: list[dict[str, Any]]
    reviewed_quality: list[dict[str, Any]]
    weight: dict[str, float]
    abstained: dict[str, float]
    correlation: dict[str, float]
    _category: _Classifier = dataclasses.field(repr=False)
    _dx_label: _Classifier = dataclasses.field(repr=False)
    _sentiment: Floats = dataclasses.field(repr=False)  # (features + 1,), the last the intercept
    _severity: Floats = dataclasses.field(repr=False)  # likewise
    _middle: Floats = dataclasses.field(repr=False)  # mean of the counted expressions
    _spread: Floats = dataclasses.field(repr=False)  # their standard deviation

    def predict(self, texts: Sequence[str], vectors: npt.NDArray[np.float32]) -> pl.DataFrame:
        """Kind, label, sentiment and severity of texts.

        Args:
            texts: clean English texts; others give answers without meaning.
            vectors: of the same texts, from the encoder the models were trained with, shape (n, d).

        Returns:
            One row per text, in order: category String, one of `records.Category`, null when unsure · category_score
            Float64, 0–1, the calibrated probability of the likeliest category, also where it was not sure enough to be
            given · dx_label String, one of `records.DxLabel`, null when unsure or none applies · dx_score Float64,
            likewise, of the likeliest label or of none applying · sentiment Float64, -1 to 1 · severity_score Float64,
            0 cosmetic or no fault at all, about 0.33 annoying, 0.67 somebody cannot work, 1 outage, loss or exposure of
            data. An empty text is null in all columns.

        Raises:
            ValueError: texts and vectors differ in number, or the vectors in width from those of the training.
        """
        if len(texts) != len(vectors):
            raise ValueError(f"{len(texts)} texts but {len(vectors)} vectors")
        blocks = [self._predict(texts[i : i + BLOCK], vectors[i : i + BLOCK]) for i in range(0, len(texts) or 1, BLOCK)]
        return pl.concat(blocks)

    def category_scores(self, texts: Sequence[str], vectors: npt.NDArray[np.float32]) -> Floats:
        """Probability of every category, shape (n, 6), in the order of `CATEGORIES`; arguments as in `predict`."""
        return self._category.scores(self._see(texts, vectors))

    def _see(self, texts: Sequence[str], vectors: npt.NDArray[np.float32]) -> Floats:
        width = len(self._category.weights) - len(self._middle) - 1
        if vectors.shape != (len(texts), width):
            raise ValueError(f"vectors must have shape {(len(texts), width)}, got {vectors.shape}")
        counts, words = _expressions(texts)
        return _features(vectors, counts, words, self._middle, self._spread)

    def _predict(self, texts: Sequence[str], vectors: npt.NDArray[np.float32]) -> pl.DataFrame:
        features = self._see(texts, vectors)
        category, category_score = self._category.predict(features)
        dx_label, dx_score = self._dx_label.predict(features)
        sentiment = features @ self._sentiment[:-1] + self._sentiment[-1]
        severity = features @ self._severity[:-1] + self._severity[-1]
        has_words = pl.Series([bool(t.strip()) for t in texts], dtype=pl.Boolean)
        return pl.DataFrame(
            {
                "category": pl.Series(category, dtype=pl.String),
                "category_score": category_score,
                "dx_label": pl.Series(dx_label, dtype=pl.String),
                "dx_score": dx_score,
                "sentiment": np.clip(sentiment, -1, 1),
                "severity_score": np.clip(severity, 0, 1),
            }
        ).select(pl.when(has_words).then(pl.all()))


def train(encode: Encode, seed: int = 0, reviewed: pl.DataFrame | None = None) -> Triage:
    """Train on the labelled texts that ship with the package and on those an analyst labelled.

    Args:
        encode: turns texts into vectors of length 1, shape (n, d); a method of an object with a ``name`` or a function.
        seed: shuffles the folds of the cross-validation.
        reviewed: what the analyst said, one row per text, in any order: text (clean English) · category · dx_label
            (`NONE`: carries none of the five) · sentiment · severity_score · chosen. A null was not said. Quality is
            measured on the rows chosen at ``random`` only; the models learn from all.

    Returns:
        Models that are the same for the same labelled texts, reviewed texts, encoder and seed.
    """
    import sklearn.linear_model  # noqa: F401  # before the limit below, which holds for libraries loaded by then

    known, own = labelled(), _own(reviewed)
    texts = (*known.texts, *own["text"])
    counts, words = _expressions(texts)
    shipped = len(known.texts)
    middle, spread = counts[:shipped].mean(axis=0), counts[:shipped].std(axis=0) + 1e-9
    features = _features(np.asarray(encode(texts)), counts, words, middle, spread)

    def said(column: str, of_package: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What was said of each text, the package's first; an empty string or NaN is not said."""
        mine = own[column].fill_null("") if own[column].dtype == pl.String else own[column].fill_null(float("nan"))
        return np.concatenate([of_package, mine.to_numpy()])

    category, dx_label = said("category", known.category), said("dx_label", known.dx_label)
    drawn = np.concatenate([np.zeros(shipped, bool), (own["chosen"] == "random").to_numpy().astype(bool)])
    rows = _Rows(features, np.arange(len(texts)) >= shipped, drawn, _folds(texts, category, dx_label, shipped, seed))
    with threadpool_limits(1):  # quicker for matrices this small, and the same sums on every machine
        kinds = _classify(rows, category, CATEGORIES, "category")
        labels = _classify(rows, dx_label, (*DX_LABELS, NONE), "dx_label")
        sentiment = _regress(rows, said("sentiment", known.sentiment), "sentiment")
        severity = _regress(rows, said("severity_score", known.severity), "severity")
    reviewed_sha = f"+{hashlib.sha256(own.write_json().encode()).hexdigest()[:12]}" if own.height else ""
    return Triage(
        version=f"{METHOD}:{known.sha256[:12]}{reviewed_sha} on {_encoder_name(encode)}",
        quality=kinds.quality + labels.quality,
        reviewed_quality=[row for part in (kinds, labels, sentiment, severity) for row in part.reviewed_quality],
        weight={"category": kinds.weight, "dx_label": labels.weight},
        abstained={"category": kinds.abstained, "dx_label": labels.abstained},
        correlation={"sentiment": sentiment.correlation, "severity": severity.correlation},
        _category=kinds.classifier,
        _dx_label=labels.classifier,
        _sentiment=sentiment.weights,
        _severity=severity.weights,
        _middle=middle,
        _spread=spread,
    )


def in_words(kind: str, values: Iterable[float | None]) -> list[str | None]:
    """Sentiment as negative, neutral or positive; severity as mild or severe (somebody cannot work); null as None.

    >>> in_words("sentiment", [-0.5, 0.1, None])
    ['negative', 'neutral', None]
    """
    if kind == "severity":
        return [None if v is None else "severe" if v >= SEVERE else "mild" for v in values]
    return [None if v is None else "negative" if v <= -FELT else "positive" if v >= FELT else "neutral" for v in values]


def _own(reviewed: pl.DataFrame | None) -> pl.DataFrame:
    """The reviewed texts that say something, in an order of their own, so that the order given does not matter."""
    types: dict[str, pl.DataType] = {c: pl.String() for c in REVIEWED}
    types |= {"sentiment": pl.Float64(), "severity_score": pl.Float64()}
    if reviewed is None:
        return pl.DataFrame(schema=types)
    answers = ("category", "dx_label", "sentiment", "severity_score")
    own = reviewed.select(pl.col(c).cast(t) for c, t in types.items())
    own = own.filter(pl.col("text").str.strip_chars() != "", pl.any_horizontal(pl.col(*answers).is_not_null()))
    for column, allowed in (("category", CATEGORIES), ("dx_label", (*DX_LABELS, NONE))):
        unknown = set(own[column].drop_nulls()) - set(allowed)
        if unknown:
            raise ValueError(f"{column} must be one of {', '.join(allowed)}, got {', '.join(sorted(unknown))}")
    return own.sort(REVIEWED)


def judged(kind: str, label: str, truth: Sequence[str | None], said: Sequence[str | None]) -> dict[str, Any]:
    """How right answers were about one label, with 95 % intervals.

    Args:
        kind: what was asked: ``category``, ``dx_label``, ``sentiment`` or ``severity``.
        label: one answer to it; ``any`` is all of them together.
        truth: what a person said of each text; `NONE` is "none of them".
        said: what the models said; None where they abstained.

    Returns:
        kind · label · n (texts that carry it) · said (how often it was given) · right (of those) · precision,
        precision_low, precision_high (None when it was never given) · recall, recall_low, recall_high,
        abstained_ratio: of the n, for which nothing was said (None when n is 0).
    """
    every = label == "any"
    is_it = [t not in (None, NONE) if every else t == label for t in truth]
    given = [s not in (None, NONE) if every else s == label for s in said]
    n, times = sum(is_it), sum(given)
    right = sum(g and t == s for g, t, s in zip(given, truth, said, strict=True))
    silent = sum(i and s in (None, NONE) for i, s in zip(is_it, said, strict=True))
    row: dict[str, Any] = {"kind": kind, "label": label, "n": n, "said": times, "right": right}
    for name, of in (("precision", times), ("recall", n)):
        low, high = wilson(right, of) or (None, None)
        row |= {name: right / of if of else None, f"{name}_low": low, f"{name}_high": high}
    return row | {"abstained_ratio": silent / n if n else None}


def _encoder_name(encode: Encode) -> str:
    owner = getattr(encode, "__self__", encode)
    return str(getattr(owner, "name", None) or getattr(encode, "__name__", "unnamed encoder"))


def _features(vectors: npt.NDArray[Any], counts: Floats, words: Floats, middle: Floats, spread: Floats) -> Floats:
    """Vector, counted expressions and lexicon side by side, scaled so that one regularisation suits all."""
    return np.hstack([vectors * VECTOR_SCALE, (counts - middle) / spread * COUNT_SCALE, words[:, None] * WORD_SCALE])


@dataclasses.dataclass(frozen=True)
class _Rows:
    """What is learnt from: the package's texts, then the analyst's."""

    features: Floats
    own: npt.NDArray[np.bool_]  # the analyst's
    drawn: npt.NDArray[np.bool_]  # of these, the ones drawn at random
    folds: npt.NDArray[np.int64]

    def where(self, kept: npt.NDArray[np.bool_]) -> _Rows:
        return _Rows(self.features[kept], self.own[kept], self.drawn[kept], self.folds[kept])

    @property
    def candidates(self) -> tuple[float, ...]:
        return WEIGHTS if self.own.any() else WEIGHTS[:1]


@dataclasses.dataclass(frozen=True)
class _Classified:
    classifier: _Classifier
    quality: list[dict[str, Any]]
    reviewed_quality: list[dict[str, Any]]
    abstained: float  # the share for which it says nothing of the package's texts that carry a label
    weight: float


def _folds(
    texts: Sequence[str], category: npt.NDArray[Any], dx_label: npt.NDArray[Any], shipped: int, seed: int
) -> npt.NDArray[np.int64]:
    """The fold of each text: every pair of category and label is spread evenly, in an order drawn from the seed.

    The package's texts and the analyst's are spread each for themselves; equal texts share a fold.
    """
    folds = np.empty(len(texts), np.int64)
    for part in (slice(0, shipped), slice(shipped, len(texts))):
        kinds, labels = category[part], dx_label[part]
        drawn = np.random.default_rng(seed).permutation(len(kinds))
        order = drawn[np.lexsort((labels[drawn], kinds[drawn]))]
        mine = np.empty(len(kinds), np.int64)
        mine[order] = np.arange(len(kinds)) % FOLDS
        folds[part] = mine
    first: dict[str, int] = {}
    for index, text in enumerate(texts):
        folds[index] = folds[first.setdefault(" ".join(text.lower().split()), index)]
    return folds


def _classify(rows: _Rows, truth: npt.NDArray[Any], labels: tuple[str, ...], kind: str) -> _Classified:
    """The classifier and what it is worth.

    What is chosen (the weight of the analyst's texts, the temperature, the thresholds) is chosen for each fold from
    the scores of the others, so that quality is measured on texts that had no say in it.
    """
    rows, truth = rows.where(truth != ""), truth[truth != ""]
    target = np.array([labels.index(t) for t in truth])
    logits = {w: np.empty((len(target), len(labels))) for w in rows.candidates}
    for weight, scored in logits.items():
        for fold in range(FOLDS):
            rest, mine = rows.folds != fold, rows.folds == fold
            weights, bias = _logistic(rows.where(rest), target[rest], len(labels), weight)
            scored[mine] = rows.features[mine] @ weights + bias

    def chosen(part: npt.NDArray[np.bool_]) -> tuple[float, float, Floats]:
        """Weight, temperature and thresholds, from some of the rows."""
        weight = _best_weight({w: _losses(s[part], target[part]) for w, s in logits.items()}, rows.own[part])
        counts = np.where(rows.own[part], SAY, 1.0)
        return weight, *_calibrate(logits[weight][part], target[part], labels, counts)

    given = np.full(len(target), -1)
    without = np.full(len(target), -1)  # what the package's texts alone would have said
    for fold in range(FOLDS):
        rest, mine = rows.folds != fold, rows.folds == fold
        weight, temperature, thresholds = chosen(rest)
        given[mine] = _given(logits[weight][mine] / temperature, thresholds)
        old = rest & ~rows.own
        temperature, thresholds = _calibrate(logits[0.0][old], target[old], labels, np.ones(old.sum()))
        without[mine] = _given(logits[0.0][mine] / temperature, thresholds)

    def words(indices: npt.NDArray[np.int64]) -> list[str | None]:
        return [labels[i] if i >= 0 else None for i in indices]

    names = [label for label in labels if label != NONE]
    old = ~rows.own
    shown = [judged(kind, label, list(truth[old]), words(given[old])) for label in names]
    quality = [{k: r[k] for k in ("kind", "label", "precision", "recall", "n", "abstained_ratio")} for r in shown]
    reviewed, withheld = [], set()
    if rows.drawn.any():
        mine = rows.drawn
        for label in (*names, "any"):
            row = judged(kind, label, list(truth[mine]), words(given[mine]))
            before = judged(kind, label, list(truth[mine]), words(without[mine]))
            wrong = label != "any" and row["said"] > 0 and row["precision_high"] < PRECISION
            withheld |= {label} if wrong else set()
            more = {f"{name}_without": before[name] for name in ("precision", "recall")}
            reviewed.append(row | more | {"withheld": wrong})
    weight, temperature, thresholds = chosen(np.ones(len(target), bool))
    thresholds = np.array([2.0 if label in withheld else t for label, t in zip(labels, thresholds, strict=True)])
    weights, bias = _logistic(rows, target, len(labels), weight)
    return _Classified(
        _Classifier(labels, weights / temperature, bias / temperature, thresholds),
        quality,
        reviewed,
        float((given[old & (truth != NONE)] == -1).mean()),
        weight,
    )


def _given(logits: Floats, thresholds: Floats) -> npt.NDArray[np.int64]:
    """The index of the label of each row, -1 where it is unsure."""
    scores = _softmax(logits)
    best = scores.argmax(axis=1)
    return np.where(scores.max(axis=1) >= thresholds[best], best, -1)


def _losses(logits: Floats, target: npt.NDArray[np.int64]) -> Floats:
    """Minus the log of the probability of the truth, row by row."""
    losses: Floats = -np.log(np.maximum(_softmax(logits)[np.arange(len(target)), target], 1e-12))
    return losses


def _best_weight(losses: Mapping[float, Floats], own: npt.NDArray[np.bool_]) -> float:
    """The weight under which the analyst's texts, not seen, are judged best; 0 where there are none."""
    return min(losses, key=lambda w: float(losses[w][own].mean()) if own.any() else w)


def _logistic(rows: _Rows, target: npt.NDArray[np.int64], classes: int, weight: float) -> tuple[Floats, Floats]:
    """Weights (features, classes) and bias (classes,) of a regularised multinomial logistic regression."""
    from sklearn.linear_model import LogisticRegression

    counts = np.where(rows.own, weight, 1.0)
    used = counts > 0
    model = LogisticRegression(C=STRENGTH, max_iter=500, tol=1e-3)
    model.fit(rows.features[used], target[used], sample_weight=counts[used])
    if len(model.classes_) != classes:
        raise ValueError(f"every label needs a text in every fold, got {len(model.classes_)} of {classes}")
    return model.coef_.T, model.intercept_


@dataclasses.dataclass(frozen=True)
class _Regressed:
    weights: Floats  # (features + 1,), the last the intercept
    correlation: float  # with what a person said, on texts not seen
    reviewed_quality: list[dict[str, Any]]


def _regress(rows: _Rows, target: Floats, kind: str) -> _Regressed:
    """A regression and what it is worth.

    A regularised regression answers too close to the middle; its answers are stretched until, on texts not seen, they
    vary as much as what people said.
    """
    from sklearn.linear_model import Ridge

    rows, target = rows.where(~np.isnan(target)), target[~np.isnan(target)]

    def fitted(part: npt.NDArray[np.bool_], weight: float) -> Any:
        counts = np.where(rows.own[part], weight, 1.0)
        return Ridge(alpha=RIDGE).fit(rows.features[part], target[part], sample_weight=counts)

    unseen = {w: np.empty(len(target)) for w in rows.candidates}
    for weight, answers in unseen.items():
        for fold in range(FOLDS):
            mine = rows.folds == fold
            answers[mine] = fitted(~mine, weight).predict(rows.features[mine])

    def chosen(part: npt.NDArray[np.bool_], candidates: Sequence[float]) -> tuple[float, float, float]:
        """Weight, middle and stretch, from some of the rows."""
        errors = {w: (unseen[w][part] - target[part]) ** 2 for w in candidates}
        weight = _best_weight(errors, rows.own[part])
        counts = np.where(rows.own[part], weight, 1.0)
        stretch = _spread_of(target[part], counts) / _spread_of(unseen[weight][part], counts)
        return weight, float(np.average(target[part], weights=counts)), stretch

    answers, without = np.empty(len(target)), np.empty(len(target))
    for fold in range(FOLDS):
        rest, mine = rows.folds != fold, rows.folds == fold
        for filled, candidates in ((answers, rows.candidates), (without, WEIGHTS[:1])):
            weight, middle, stretch = chosen(rest, candidates)
            filled[mine] = middle + stretch * (unseen[weight][mine] - middle)
    reviewed = []
    if rows.drawn.any():
        truth, after, before = (in_words(kind, values[rows.drawn].tolist()) for values in (target, answers, without))
        for label in (*IN_WORDS[kind], "any"):
            row, old = judged(kind, label, truth, after), judged(kind, label, truth, before)
            more = {f"{name}_without": old[name] for name in ("precision", "recall")}
            reviewed.append(row | more | {"withheld": False})
    weight, middle, stretch = chosen(np.ones(len(target), bool), rows.candidates)
    model = fitted(np.ones(len(target), bool), weight)
    weights = np.append(stretch * model.coef_, middle + stretch * (model.intercept_ - middle))
    return _Regressed(weights, float(np.corrcoef(unseen[weight], target)[0, 1]), reviewed)


def _spread_of(values: Floats, counts: Floats) -> float:
    """Weighted standard deviation."""
    middle = np.average(values, weights=counts)
    return float(np.sqrt(np.average((values - middle) ** 2, weights=counts)))


def _softmax(logits: Floats) -> Floats:
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Floats = exponent / exponent.sum(axis=1, keepdims=True)
    return result


def _calibrate(
    logits: Floats, target: npt.NDArray[np.int64], labels: tuple[str, ...], counts: Floats
) -> tuple[float, Floats]:
    """The temperature that makes the scores probabilities, and the score from which each label is right often enough.

    ``counts`` says how much each row counts.

    Source of the temperature: Guo et al., "On calibration of modern neural networks", 2017, section 4.2.
    """
    losses = [float(np.average(_losses(logits / t, target), weights=counts)) for t in _TEMPERATURES]
    temperature = float(_TEMPERATURES[int(np.argmin(losses))])
    scores = _softmax(logits / temperature)
    best = scores.argmax(axis=1)
    thresholds = np.full(len(labels), 2.0)
    for index, label in enumerate(labels):
        if label == NONE:
            continue
        mine = np.flatnonzero(best == index)
        ranked = mine[np.argsort(-scores[mine, index], kind="stable")]
        precision = np.cumsum(counts[ranked] * (target[ranked] == index)) / np.cumsum(counts[ranked])
        enough = np.flatnonzero(precision >= PRECISION)
        if len(enough):
            thresholds[index] = max(FLOOR, float(scores[ranked[enough[-1]], index]))
    return temperature, thresholds
