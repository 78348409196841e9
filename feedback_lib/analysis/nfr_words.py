"""The words and patterns `nfr` reads requirement lines by: units, comparators, what is measured, and look-alikes.

To teach the reader a word or a language, add it to the table it belongs to; no rule names a single phrase. Text is
compared in lower case, after `nfr_markdown.plain`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal, NamedTuple

Category = Literal[
    "latency", "error_rate", "availability", "throughput", "saturation", "freshness", "reliability", "other"
]
Op = Literal["<", "<=", ">", ">="]
LOW_IS_GOOD: frozenset[Category] = frozenset({"latency", "error_rate", "saturation", "freshness"})


def any_of(phrases: str) -> re.Pattern[str]:
    """A pattern for any of the phrases, which stand in lines and between bars; each is a regular expression.

    A phrase that begins or ends with an ASCII letter begins or ends a word, and other letters do not count as letters,
    so "500ms以内" and "p95ของ" fall apart where they should. The longest phrase is tried first.
    """
    parts, depth = [""], 0
    for char in re.sub(r"\s*\n\s*", "|", unicodedata.normalize("NFKC", phrases.strip())):
        depth += (char == "(") - (char == ")")
        if char == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += char

    def edge(char: str) -> str:
        return r"\b" if char.isascii() and (char.isalnum() or char == "?") else ""

    longest_first = sorted({part.strip() for part in parts}, key=lambda part: (-len(part), part))
    return re.compile("|".join(f"{edge(part[0])}(?:{part}){edge(part[-1])}" for part in longest_first), re.ASCII)


# ---- quantities ---------------------------------------------------------------------------------------------------

UNITS: tuple[tuple[str, str, str, str], ...] = (  # name, dimension, size in s, in shares of 1 or in bytes/s, spellings
    ("ns", "time", "1e-9", "ns|nsec|nanoseconds?"),
    ("µs", "time", "1e-6", "μs|us|usec|microseconds?|mikrosekunden?"),
    (
        "ms",
        "time",
        "1e-3",
        "ms|msecs?|milliseconds?|millisecs?|millisekunden?|millisecondes?|milisegundos?|millisecondi",
    ),
    ("ms", "time", "1e-3", "milliseconden|ミリ秒|毫秒|밀리초|มิลลิวินาที"),
    ("s", "time", "1", "s|secs?|seconds?|sekunden?|sek|secondes?|segundos?|second[io]|seconden|秒钟?|秒間|秒|초|วินาที"),
    ("min", "time", "60", "m|mins?|minutes?|minuten?|minutos?|minut[io]|分钟|分鐘|分間|分|분|นาที"),
    ("h", "time", "3600", "h|hrs?|hours?|stunden?|heures?|horas?|or[ea]|uur|時間|小时|小時|시간|ชั่วโมง"),
    ("d", "time", "86400", "d|days?|tagen?|tage?|jours?|d[íi]as?|giorni|dagen|日|天|일|วัน"),
    (
        "%",
        "ratio",
        "0.01",
        "%|percent|per cent|pct|prozent|pour cent|por ciento|por cento|procent|パーセント|퍼센트|เปอร์เซ็นต์",
    ),
    ("‰", "ratio", "0.001", "‰|per mille|permille|promille"),
    ("req/s", "rate", "1", "rps|qps|tps|iops"),
    ("req/min", "rate", "60", "rpm|tpm"),
    ("kB/s", "bytes", "1e3", "kb/s|kbps"),
    ("MB/s", "bytes", "1e6", "mb/s|mb per second"),
    ("GB/s", "bytes", "1e9", "gb/s|gb per second"),
    ("Mbit/s", "bytes", "125e3", "mbps|mbit/s"),
    ("Gbit/s", "bytes", "125e6", "gbps|gbit/s"),
)
PERIODS = {4: "req/s", 5: "req/min", 6: "req/h", 7: "req/d"}  # places in UNITS, and what so many per such a time are
SUBSECOND = frozenset({"ns", "µs", "ms"})

_ENDS = r"(?![A-Za-z0-9_])"
UNIT = re.compile("|".join(f"[ -]?(?P<u{i}>(?:{spelt})){_ENDS}" for i, (*_, spelt) in enumerate(UNITS)), re.ASCII)
PER = re.compile(  # "requests per second", "req/min", "件/秒"
    r"(?P<noun>[^\d.,;:()<>≤≥=%|/~]{0,60}?)"
    r" ?(?:/ ?|\b(?:per|each|every|pro|par|por|al|(?<!by )(?<!of )a|in der) |ต่อ ?|每|毎)(?:"
    + "|".join(f"(?P<u{i}>(?:{UNITS[i][3]}))" for i in PERIODS)
    + f"){_ENDS}",
    re.ASCII,
)
TIMES = re.compile(
    rf" ?(?:(?P<k>k|thousand|tsd\.?|mille?)|(?P<m>million|mio\.?|m)|(?P<w>万|萬|만)){_ENDS}",
    re.ASCII,
)
TIMES_OF = {"k": 1_000, "m": 1_000_000, "w": 10_000}

_N = r"\d{1,3}(?:[ ,.'_]\d{3})+(?:[.,]\d{1,9})?(?!\d)|\d{1,12}(?:[.,]\d{1,12})?(?!\d)|\.\d{1,9}(?!\d)"
NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.^#/€£¥฿$])(?<!\d,)(?<![A-Za-z0-9]-)"
    rf"(?:(?P<low>{_N}) ?(?:%|[a-z]{{1,7}})? ?(?:-|–|—|~|\bto\b|\bbis\b|\band\b|至|から|ถึง) ?)?(?P<high>{_N})",
    re.ASCII,
)
PERCENTILE = re.compile(
    r"(?:\b|_)t?p[- ]?(?P<a>\d{2,4}(?:\.\d+)?)(?:th)?(?![\d%]|ms|[a-z])"
    r"|(?<![\d.,])(?P<b>\d{2}(?:[.,]\d{1,3})?) ?(?:st|nd|rd|th|e|ème|er|[º°]|\.)?[ -]?(?:percentil\w*|%-?ile"
    r"|perzentil\w*|centile|パーセンタイル|百分位|分位|백분위|เปอร์เซ็นไทล์)"
    r"|(?:percentile?|perzentil|centile|เปอร์เซ็นไทล์(?:ที่)?|第) ?(?P<c>\d{2}(?:[.,]\d{1,3})?)(?!\d)"
    r"|\b(?P<d>\d\d) (?:out )?of (?:every )?100\b|\b(?P<median>median)\b",
    re.ASCII,
)
SHARE_OF = re.compile(  # "95% of requests complete within …": the share is a percentile
    r"\s*(?:of|der|des|de|d'|aller|von|dei|delle|di|van|ของ|の|的|의)(?![a-z])(?P<noun>[^,.;:()\d<>≤≥]{0,40})"
)
SHARE_BEFORE = re.compile(r"(?:リクエスト|クエリ|请求|요청|คำขอ)(?:の|中|的|의)? ?$|(?:@|\b(?:for|at)) ?$")

_SPAN = (
    r"(?P<{0}>\d{{1,4}})[ -]?(?P<{0}u>d|h|w|min|days?|hours?|minutes?|weeks?|months?|tagen?|jours|días|日間?|天|วัน)"
    r"(?![a-z])"
)
_ANY = r"a|an|any|the|each|every|calendar|rolling|trailing|sliding|last|past|period of|window of"
_EACH = r"\b(?:per|each|every|a|any|calendar|given|pro|je|par|al|por|im) "
WINDOW = re.compile(
    r"(?:\b(?:over|per|in any|within any|across|über|sur|rolling|trailing|window of|window:|averaged over) "
    rf"(?:(?:{_ANY}) ){{0,4}}{_SPAN.format('a')})"
    rf"|{_SPAN.format('b')}[ -](?:rolling|window|sliding|period|moving|trailing|average)|\({_SPAN.format('c')}\)"
    rf"|(?P<month>\bmonthly\b|(?:{_EACH}|/ ?)(?:calendar )?(?:month|mo|(?:kalender)?monat|mois|mes|mese|mês|maand)\b"
    r"|\bmonatlich|\bmonats\w+|\bmensu?[ea]l\w*|\bmaandelijks|月間|月间|按月|月度|每月|毎月|ต่อเดือน|/月|월간)"
    rf"|(?P<quarter>\bquarterly\b|{_EACH}(?:quarter|quartal|trimestre)\b|四半期|每季)"
    rf"|(?P<week>\bweekly\b|{_EACH}(?:week|woche|semaine)\b|毎週|每周|ต่อสัปดาห์)"
    rf"|(?P<year>\b(?:yearly|annual|annually)\b|{_EACH}(?:year|annum|jahr|an|año)\b|年間|每年|ต่อปี)"
    rf"|(?P<day>{_EACH}day\b)",
    re.ASCII,
)

# ---- comparators --------------------------------------------------------------------------------------------------

OPS: dict[Op, re.Pattern[str]] = {  # before the number
    "<=": any_of(
        r"""≤|<=|=<|at most|within|up to|inside|maximum|max|max\.|at the most|less than or equal to
        at or (?:below|under)
        höchstens|spätestens|maximal|innerhalb|innerhalb von|bis zu|binnen|maximaal|hoogstens
        au plus|au maximum|dans les|jusqu'à|inférieure? ou égale? à
        como máximo|máximo|dentro de|un máximo de|(?:igual o inferior|inferior o igual) a(?:l)?|menor o igual que
        no máximo|até|entro|al massimo
        ภายใน|สูงสุด|最大|最多|最长|최대"""
    ),
    "<": any_of(
        r"""<|under|below|less than|fewer than|lower than|shorter than|faster than|quicker than|smaller than
        younger than|drop\w*
        dip\w*
        unter|weniger als|kürzer als|schneller als|kleiner als|minder dan|onder
        moins de|moins d'|inférieure? à|sous|en dessous de|menos de|inferior al?|menor que|menor al?|por debajo del?
        inferior ao?|abaixo de|meno di|inferiore a(?:l|llo|lla|i)?|sotto i
        น้อยกว่า|ต่ำกว่า|เร็วกว่า|小于|低于|少于|小於|低於|不足"""
    ),
    ">=": any_of(
        r"""≥|>=|=>|at least|minimum|min\.|meets? or exceeds?|no earlier than|greater than or equal to
        at or (?:above|over)
        mindestens|wenigstens|minimal|minimaal|minstens|ten minste|au moins|supérieure? ou égale? à
        al menos|como mínimo|mínimo|(?:igual o superior|superior o igual) a(?:l)?|mayor o igual que|pelo menos
        no mínimo|almeno
        อย่างน้อย|至少|最低|最少|最小|최소"""
    ),
    ">": any_of(
        r"""(?<![-=])>|above|over|more than|greater than|higher than|longer than|larger than|slower than|older than
        later than
        exceed\w*|beyond|better than|worse than|by more than|lag\w* behind by|outlast\w*
        mehr als|länger als|größer als|höher als|älter als|über|überschreite\w*|meer dan
        plus de|supérieure? à|dépasse\w*|más de|mayor que|mayor al?|superior al?|supera[\wáé]*|exced[\wáé]*
        sobrepas[\wáé]*
        mais de|maior que|superior ao?|acima de|ultrapass\w*|più di|superiore al?|superare
        เกิน|มากกว่า|สูงกว่า|นานกว่า|大于|高于|超过|超過|大於|高於|초과"""
    ),
}
FILLER = re.compile(  # between a comparator and its number
    r"[\s:=(]*(?:(?:of|a|an|the|be|or equal to|avg|average|mean|median|total|only|just|rate|previous|von|de|les|la|le"
    r"|el|il|lo|los|las|un|una|uma|than|que|at|to|limit|value|target|threshold|p|percentile)\b[\s:]*)*[~≈]?\s*",
    re.ASCII,
)
NOT = re.compile(
    r"\b(?:not?|never|cannot|without|nicht|kein\w*|pas|jamais|não|nunca|non|niet|geen)\b|n't\b|不|ไม่(?:ควร)?$"
)
AFTER: dict[Op, re.Pattern[str]] = {  # behind the number
    "<=": any_of(
        r"""or less|or lower|or fewer|or below|or faster|or under|or shorter|max|maximum|at most|at the most
        oder weniger|nicht überschreiten|nicht übersteigen|nicht überschritten|ou moins|o menos|ou menos|o meno
        of minder
        หรือน้อยกว่า|以内|以下|之内|内|內|まで|を超えない|を超えず|이내|이하"""
    ),
    "<": any_of("未満|미만|を下回る|を切る"),
    ">=": any_of(
        r"""\+|or more|or higher|or greater|or above|or better|or over|minimum|min|at least|at minimum|as a minimum
        oder mehr|oder höher|nicht unterschreiten|ou plus|o más|ou mais|o più|of meer|ขึ้นไป|以上|이상"""
    ),
    ">": any_of("超える|초과"),
}
GAP = re.compile(r"[\s)%]*(?:(?!or\b|max|min|at\b)[a-zà-ÿ-]+\s+){0,3}")  # between the number and such a comparator
FAR = re.compile(r"\b(?:(?P<max>max|maximum|maximal\w*|máxim\w*|höchst\w*)|minimum|minimal\w*|mínim\w*|mindest\w*)\b")
SET = re.compile(  # what stands right before a number that has no comparator
    r"(?:[:=]|\b(?:of|is|be|are|at|as|to|latency|times?|t?p\d+(?:\.\d+)?|percentile|von|beträgt|de|est)|は|が)\s*$"
)

# ---- what is measured ---------------------------------------------------------------------------------------------

CATEGORIES: dict[Category, tuple[str, re.Pattern[str]]] = {  # the dimension of its quantities, and its words
    "latency": (
        "time",
        any_of(
            r"""latenc\w*|respon[sd]\w*|runtime|loads?|loaded|loading|render\w*|ttfb|lcp|fcp|inp|tti|fid|rtt
            round[- ]trip
            \w+ times?|duration|delay\w*|complet\w*|process\w*|execut\w*|return\w*|takes?|finish\w*|deliver\w*|lookups?
            answer\w*|display\w*|shown|arriv\w*|visible|appear\w*|authenticat\w*|speed|starts?|startup|queries|query|performance
            open\w*|batch\w*|jobs?|nightly|backups?|etl|imports?|exports?
            antwort\w*|reaktionszeit\w*|laufzeit\w*|latenz\w*|ladezeit\w*|laden|geladen|dauer\w*|verarbeit\w*|angezeigt
            réponse|répond\w*|temps de \w+|latence|délai\w*|charg\w+|responstijd|laadtijd
            tiempos? de \w+|cierre|latencia\w*|respuesta|carga\w*|carreg\w*|tempo de|latência|resposta|tempo di|latenza
            risposta
            応答|バッチ|レスポンス|レイテンシ|遅延|処理|表示|完了|終了|読み込み|起動|响应|延迟|耗时|加载|处理|返回|响應|延遲
            응답|지연|처리|로딩|로드|ตอบสนอง|เวลา|โหลด|หน่วง|ประมวลผล|แสดง"""
        ),
    ),
    "freshness": (
        "time",
        any_of(
            r"""fresh\w*|stale\w*|lags?|lagging|older|out of date|up[- ]to[- ]date|propagat\w*|replicat\w*|reflected in
            data age|age of|of occurrence|data delay|eventual\w* consisten\w*|outdated
            (?<=\| )(?:old|alt)\b|behind|reflects?
            queryable
            searchable|(?:data|rows) (?:written|updated)|younger
            veraltet\w*|aktualität|älter|fraîcheur|datent|fraîches|frescura|desactualizad\w*|antigüedad
            古い|鮮度|反映|新鲜|同步延迟|数据延迟|滞后|ความสดใหม่"""
        ),
    ),
    "availability": (
        "ratio",
        any_of(
            r"""uptime|up-time|(?:be|is|stays?) up|availab\w*|sla\b(?! guarantee)|verfügbar\w*|erreichbar\w*
            disponib\w*|beschikba\w*
            稼働率|稼動率|可用性|可用率|アップタイム|가용성|가동률|พร้อมใช้งาน|อัปไทม์"""
        ),
    ),
    "error_rate": (
        "ratio",
        any_of(
            r"""errors?|fails?|failed|failing|failures?|5xx|4xx|faults?|exceptions?|dropped|lost|loses?
            (?:packet|data|message) loss|dlq|dead-?letter\w*|fallbacks?|anr|timeouts?
            rejected
            unavailab\w*|crash rate|crashes|fehler\w*|erreurs?|échecs?|error\w*|erros?|fallos?|errori|fout\w*
            falh\w*|go(?:es)? wrong
            エラー|失敗|错误|错誤|失败|오류|에러|실패|ผิดพลาด|ล้มเหลว"""
        ),
    ),
    "reliability": (
        "ratio",
        any_of(
            r"""success\w*|succeed\w*|durab\w*|reliab\w*|deliver\w*|crash-free|error-free|completeness|without errors?
            without failures?
            non-error|correctly|erfolg\w*|zuverlässig\w*|réussi\w*|succès|éxito\w*|exitosa\w*|sucesso|successo
            成功|성공|สำเร็จ"""
        ),
    ),
    "saturation": (
        "ratio",
        any_of(
            r"""cpu|memory|ram|disk|heap|utili[sz]ation|saturat\w*|load average|usage
            auslastung|speicher\w*|mémoire|memoria|memória|uso de \w+|使用率|利用率|メモリ|内存|메모리|사용률
            หน่วยความจำ|ซีพียู"""
        ),
    ),
    "other": (
        "ratio",
        any_of(
            r"""hit rates?|hit[- ]ratios?|cache hits?|cache (?:\w+ )?(?:answer|serve)s?
            trefferquote|succès du cache|ヒット率|命中率"""
        ),
    ),
    "throughput": (
        "rate",
        any_of(
            r"""throughput|requests?|req|transactions?|queries|query|calls|operations?|ops|messages?|events?|records?
            durchsatz|anfragen|débit|requêtes|rendimiento|solicitudes|peticiones|requisições|vazão|richieste
            スループット|リクエスト|吞吐|请求|처리량|요청|คำขอ|ปริมาณ"""
        ),
    ),
}
EXAMPLES: dict[Category, str] = {  # a readable line of each category; what stands before the comparator is its label
    "latency": "Latency p95 < 300 ms",
    "error_rate": "Error rate < 0.1 %",
    "availability": "Availability >= 99.9 %",
    "throughput": "Throughput >= 1000 req/s",
    "saturation": "Utilization < 80 %",
    "freshness": "Data staleness < 5 min",
    "reliability": "Success rate >= 99 %",
    "other": "Cache hit rate >= 90 %",
}
BEARS = any_of(  # somebody bears a load
    r"""support\w*|handl\w*|process\w*|sustain\w*|serv(?:e|es|ing)|accept\w*|ingest\w*|scales? to|achiev\w*|maintain\w*
    verarbeit\w*|trait\w*|support\w*|soporta\w*|proces\w*|suportar|processar|gestisc\w*|gestire|verwerk\w*|支持|处理|処理|처리
    รองรับ"""
)
CAPACITY = any_of(  # the same as a noun
    r"""throughput|capacity|peak|load|volume|traffic|rates?|speed|bandwidth|durchsatz|kapazität|débit|capacité
    capacidad\w*|vazão
    rendimiento
    スループット|吞吐|처리량|ปริมาณ"""
)
MUST = any_of(  # a requirement speaks
    r"""must|shall|should|will|targets?|targeted|goals?|objectives?|slos?|sla|required?|requires|requirement|maintain\w*
    achieves?|guarantee\w*|ensure\w*|provides?|keep|stays?|support\w*|handl\w*|sustain\w*|needs? to|expected
    muss|müssen|soll\w*|darf|doit|doivent|debe\w*|deve\w*|moet\w*|ต้อง|必须|必須|应|應|すること|해야"""
)
WISHED = re.compile(r"\b(?:should|ideally|aims?|may|could|nice to have)\b")
FORMAL = any_of(  # headings over requirements of this sort
    r"""non-?functional\w*|nfrs?|performance\w*|latenc\w*|respon[sd]\w*|slos?|slas?|slis?|service levels?|reliab\w*
    availab\w*|scalab\w*|throughput|capacity|quality attributes?|quality requirements?|quality goals?|efficien\w*|speed
    uptime|success criteria|measurable outcomes|targets|goals|objectives|promises|commitments|drivers|kpis?
    load times?|freshness|constraints|acceptance(?: criteria)?|definition of done|requirements
    nicht-?funktionale?\w*|niet-?functionele?|beschikbaarheid|prestaties|leistung\w*|verfügbarkeit|latenz\w*
    non fonctionnel\w*|exigences|disponibilité
    no funcionales|rendimiento|disponibilidad|não funcionais|desempenho|non funzionali|prestazioni
    性能|非機能|非功能|可用性|パフォーマンス|ประสิทธิภาพ|ไม่ใช่ฟังก์ชัน|비기능|성능"""
)
NAMED_SHARE = re.compile(  # a share whose label says what it is of
    r"\b(?:rates?|ratio|share|percentage|quote|anteil|taux|tasa|taxa|tasso)\b|率|비율|อัตรา"
)
GENERIC = re.compile(  # headings whose words for success or errors do not say what a number below them measures
    r"\b(?:success (?:criteria|metrics|measures)|measures of success|error (?:handling|budgets?|messages?)"
    r"|failure modes?)\b"
)
NAMED = re.compile(r"\b(?:latency|response times?|uptime|availability|throughput|error rate|t?p\d{2,3}|load times?)\b")
VAGUE = re.compile(
    r"\b(?:fast|quick\w*|high|low|minimal|highly|immediate\w*|instant\w*|real-?time|acceptable|reasonabl\w*|good|24/7|"
    r"always|threshold)\b"
)

# ---- what looks like a target and is none -------------------------------------------------------------------------


class Reject(NamedTuple):
    """Words that make a quantity no target."""

    reason: str
    dimensions: str  # of the quantities it concerns: t(ime) r(atio) p(er time) b(ytes per time)
    reach: str  # l: all before it in its sentence; n: beside it; s: also its sentence and row; h: the nearest headings
    words: re.Pattern[str]
    patient: bool = False  # concerns neither a few seconds nor what somebody sees


OUTAGE_REASON = "a recovery objective or an outage, not what a monitor measures all the time"
OUTAGE = re.compile(
    r" ?(?:of )?(?:(?:/|per |a |each ) ?(?:year|yr|month|mo|week|quarter|day)\b|[a-z ]{0,12}(?:downtime|outage))"
)
REJECTS = (
    Reject(
        "an example or what is given in it",
        "trpb",
        "l",
        any_of(
            r"e\.g\.|e\.g|eg|for example|for instance|such as|example|given\b(?!.*\bthen\b)"
            r"|z\.b\.|par exemple|por ejemplo|例えば|例如"
        ),
    ),
    Reject(
        "what is measured now, not what is wanted",
        "trpb",
        "l",
        any_of(
            r"""current|currently|today|at present|baseline
            so far|historical\w*|previously|used to|was|were|took|as-is|in (?:q[1-4] )?20\d\d
            heutige\w*|derzeit\w*|bisher\w*|actuel\w*|aujourd'hui
            (?:sistema|servicio|proceso) actual|actualmente|attualmente
            現在|現行|年度の|目前|现有|当前|현재|ปัจจุบัน"""
        ),
    ),
    Reject(
        "it says what is not wanted or not promised",
        "trpb",
        "s",
        any_of(
            r"""not a goal|not an objective|out of scope|(?:not|never) (?:promised|required|requested|needed|guaranteed)
            (?:not|n't) (?:promise|guarantee|require|need|aim for)
            nicht (?:\w+ )?(?:gefordert|zugesichert|nötig)|pas (?:demandée?|exigée?|garantie?)|hors périmètre
            no se (?:exige|requiere|garantiza)|fuera de(?:l)? alcance|対象外|不要求|不在范围|ไม่อยู่ในขอบเขต"""
        ),
    ),
    Reject(
        "what another product does",
        "trpb",
        "l",
        any_of(
            "competitors?|(?:which|it|that|vendor|product) (?:claims|advertises|quotes)|wettbewerber|競合|竞品|คู่แข่ง"
        ),
    ),
    Reject(
        "a condition of an alert or an action, not a target",
        "trpb",
        "s",
        any_of(
            r"""alerts? (?:if|when|on|at|after|above|below|threshold\w*|rules?|condition\w*|fires?)|alerts?:
            alarms? (?:if|when)|warn|warns|warnings?|escalat\w*|triggers? (?:if|when|alert\w*|an alert)|trigger:
            rollback trigger|auto-?scal\w*|scaling|scales? up|scales? out
            pager\w*|page on-?call|page (?:if|when)|notify (?:if|when)|circuit breaker|open circuit|canary
            アラート|告警"""
        ),
    ),
    Reject(
        "a condition of an alert, not a target",
        "trpb",
        "h",
        any_of(r"alert|alerts|alerting|alarms?|warnings?|escalat\w*|triggers|auto-?scaling|incidents?|アラート|告警"),
    ),
    Reject(
        "a limit put on clients, not a target of the service",
        "pb",
        "sh",
        any_of(
            r"""rate[- ]limit\w*|limited to|limiter|throttl\w*|quotas?|burst limit|レート制限|限流|ratenbegrenzung
            per (?:user|ip|client|api key|key|account|customer|session|device|tenant|host)
            je (?:teilnehmer|nutzer|kunde)|pro (?:teilnehmer|nutzer|kunde)|par (?:usager|utilisateur|client)
            por (?:usuario|cliente)|cada (?:usuario|cliente|emisor)
            ユーザーあたり|キーごと|租户|ユーザごと|单用户|每用户|每个用户|ต่อผู้ใช้|จำกัด"""
        ),
    ),
    Reject(
        "a limit put on clients, not a target of the service",
        "trpb",
        "s",
        any_of(r"too many requests|429|rate[- ]limit\w*|\d+ (?:\w+ )?attempts?|(?:failed|login|sign-in) attempts?"),
    ),
    Reject(
        OUTAGE_REASON,
        "t",
        "sh",
        any_of(
            r"""rto|rpo|recover\w*|restor\w*|fail-?over\w*|fails over|mttr|mttd|mtta|mean time to \w+|rollback
            rolled back
            disaster|downtime|outages?|interruptions?|error budget|switch-?over|maintenance|unavailab\w*
            wiederherstell\w*|ausfallzeit|indisponibilit\w*|復旧|恢复"""
        ),
    ),
    Reject(
        "a timeout, lifetime, interval or retention, not a measured duration",
        "t",
        "sh",
        any_of(
            r"""timeouts?|time-outs?|times? out|timed out|ttl|expir\w*|lifetime|lifespan|valid|validity|retention
            retain\w*
            cached for|cache duration|intervals?|poll|polls|polling|cron|back-?off|retry after|retry delay
            retries|retried|grace|cool-?down|locked|lockout|blocked|ban|debounce|idle|inactiv\w*|terminated|sprints?|heartbeats?
            keep-?alive|warm-?up|max-age|clock skew|tolerance|frequency|ago|sampling|deadline|trial|notice
            session length|older than the|tiempo de espera|scrape\w*
            rotat\w*|quarantine\w*|purge\w*|window|refresh tokens?|access tokens?
            หมดอายุ|gültig\w*|ablauf\w*|タイムアウト|有効期限|间隔|超时"""
        ),
    ),
    Reject(
        "it times people at a task, not the service",
        "t",
        "s",
        any_of(
            r"""learning curve|onboard\w*|completion time|journey|tasks?|manual\w*|approv\w*|tickets?|resolution time
            (?:sign-?up|check-?out|registration|reset|oauth|user|login|purchase|booking) flow
            support (?:team|tier|staff|request)s?|first contact|training|trained|human|moderators?
            (?:business|working) (?:hours|days)|reviewed|reviewers?
            on-?call|help ?desk|service desk|hotline|call cent(?:er|re)|inquir\w*|engineers?
            customer service|incidents?|setup|set-up|learn\w*|new users?
            first (?:response|reaction|answer)|erste reaktion|première réponse|primera respuesta|incidencias|störung\w*
            一次回答|初動|新規ユーザー|新用户|首次响应|ผู้ใช้ใหม่"""
        ),
        patient=True,
    ),
    Reject(
        "it is about people at a task, not the service",
        "trp",
        "s",
        any_of(
            r"""(?:users?|customers?|visitors?|people|participants?|developers?|operators?|administrators?|admins?
            agents?|staff|teams?|nutzer|benutzer|utilisateurs?|usuarios?|testers?|patients?|shoppers?|members?
            analysts?|nurses?|doctors?|drivers?|guests?|players?|sellers?|buyers?|employees?|students?
            hosts?|moderators?|organi[sz]ers?|managers?|editors?|authors?|readers?|learners?|teachers?|merchants?|owners?
            clerks?) (?:(?!and )\w+ ){0,3}?(?:can|could|confirm\w*|complete\w*|finish\w*|create\w*|find\w*|locate\w*
            perform\w*|accomplish\w*|book\w*|able to|register\w*|sign\w*|submit\w*|configur\w*|check out|rate
            integrat\w*|file|handles?|report\w*|understand\w*|identif\w*|successfully|(?:be )?done)
            first attempt|builds? (?:takes?|times?)|(?<!without )(?<!without a )\bmanual\w*
            (?:usagers?|utilisateurs?|usuarios?|\w*personen|nutzer|anwender|benutzer) (?:\w+ ){0,3}?(?:\w*(?:find
            schließ|buch|erledig)en|termin\w+|trouv\w+|réussi\w+|complet\w+|encuentr\w+|logr\w+)"""
        ),
        patient=True,
    ),
    Reject(
        "it times people at a task, not the service",
        "t",
        "sh",
        any_of("usability|learnability|ease of use"),
        patient=True,
    ),
    Reject(
        "a rule of security or privacy, not a measured duration",
        "t",
        "sh",
        any_of(r"(?:^|· |[\d.]+ )(?:security|privacy|compliance)(?: requirements)?(?: ·|$)"),
        patient=True,
    ),
    Reject("the load of a test, not a target", "p", "l", any_of("load tests?|stress tests?|benchmarks?")),
    Reject(
        "a share of something a metric backend does not measure",
        "r",
        "n",
        any_of(
            r"""coverage|accura\w*|precision|recall|confidence|similarit\w*|conversion|adopt\w*|retention|activation
            satisf\w*|nps|csat|discounts?|commission|tax|revenue|margin|grow\w*|rollout|roll-out|rolled out
            traffic split
            sampl\w*|scores?|quality|progress|probabilit\w*|contrast|opacity|zoom|battery|false \w+|review rate|tickets?
            compress\w*|complian\w*|pass rate|tests?|duplicat\w*|churn|bounce|engagement|open rate|click\w*
            (?<!-free )users
            customers?|people|participants|market|quota|split|error budget|burn|margin of error|prevention
            detection rate
            survey\w*|price\w*|cost\w*|fees?|budget|credits?|penalt\w*|reduction|reduced by|(?<!or )fewer(?! than)
            faster(?! than)
            improvement
            increase|decrease|kappa|f1|of builds?|documentation|code|traffic|deploy\w*|parity
            abdeckung|testabdeckung|genauigkeit|couverture|cobertura|precisión|カバレッジ|精度|正確|覆盖率|准确
            ความแม่นยำ|ครอบคลุม"""
        ),
    ),
    Reject(
        "credits or penalties for a missed commitment",
        "r",
        "s",
        any_of("service credits?|credit percentage|penalt(?:y|ies)|refunds?|credit"),
    ),
    Reject(
        "an amount per time of something else than requests",
        "p",
        "n",
        any_of(
            r"""gb|mb|tb|kb|points?|credits?|users?|customers?|steps?|dollars?|usd|thb|eur|hours|people|signups?|sales
            times?
            deploy\w*|releases?|backups?|intervals?|polls?|polling|retries|cost\w*|budget|downloads?|visitors?"""
        ),
    ),
)
_NOT_WANTED = (  # headings and labels that say so themselves
    r"out of scope|(?<!goals and )(?<!goals & )non-?goals?"
    r"|not slos?|not in scope|not promised|not in this version|exclusions|baseline|as-is"
    r"|measured(?! (?:at|by|from|in|on|over))|measurements?|(?:test|benchmark|shadow) results"
    r"|current (?:state|situation|capacity|performance|status|metrics|figures|numbers)|revision history"
    r"|(?<![a-z] )history(?! [a-z])|(?:past|previous) incidents|nicht im umfang|ausgangslage|ist-zustand|hors périmètre"
    r"|existant|fuera del? alcance|situación actual|対象外|現状|実績|ではないもの|现状|范围外|不在范围|현황|범위 외"
    r"|นอกขอบเขต"
)
_TOPICS = (
    r"estimat\w+|back[- ]of[- ]the[- ]envelope|sizing|calculations?|capacity planning|alternatives?(?: considered)?"
    r"|considered options|options considered|change ?log|glossary|risks?|assumptions?|background|problem statement"
    r"|roadmap|references|pricing|costs?|lessons(?: learned)?|future work|motivation|pilot|competitors?"
    r"|(?<!error )(?<!performance )budget"
    r"|hintergrund|annahmen|risiken|kosten|contexte|hypothèses|risques|antecedentes|supuestos|riesgos|costes?"
    r"|背景|前提|假设|风险|成本|배경|ภาพรวม|งบประมาณ"
)


def _begins_or_ends(phrases: str) -> re.Pattern[str]:
    """A pattern for texts that begin, behind their number, or end with one of the phrases."""
    number = r"^[\W\d]*(?:第?[一二三四五六七八九十]+[、.章节 ]*)?"
    return re.compile(rf"{number}(?:{phrases})(?![a-z])|(?<![a-z])(?:{phrases})\W*$")


NO_REQUIREMENTS = _begins_or_ends(f"{_NOT_WANTED}|{_TOPICS}")  # sections without targets, at any level above
NO_REQUIREMENT = _begins_or_ends(_NOT_WANTED)  # labels of a line without targets
LENGTH_BEFORE = re.compile(  # "for 5 minutes", "every 30 s", "after 24 hours", "by 20 %"
    r"(?:\b(?:for|every|each|after|last|past|next|by|first|per|older than|since|before|until|during|from|every other"
    r"|durations?|periods?(?: of)?|alle|nach|pendant|après|toutes les|durante|después de|cada|ทุก|หลัง)|每|毎)\s*\(?"
    r"(?:up to|at least|the|a|about|more than|approximately|another|last|over)?\s*$"
)
HELD_FOR = re.compile(  # "CPU < 30 % for 15 minutes": what sets an alert off has a patience, a target has none
    r" (?:sustained )?for (?:more than |at least |over |longer than )?\d+ ?(?:consecutive )?"
    r"(?:[smh]|(?:sec|min|hour)\w*)\b"
)
LOAD_BEFORE = re.compile(  # "p95 < 200 ms at 1000 rps": the load it holds under
    r"(?:\b(?:at|under|with|during|when|while|given|bei|unter|à|sous|con|bajo)\b|@|で|在)[^<>≤≥]{0,40}$"
)
ESTIMATE = re.compile(
    r"(?:[~≈±]|\b(?:about|around|approx\w*|roughly|circa|ca|ungefähr|environ|aprox\w*|typically|usually|normally)\b\.?"
    r"|約|およそ|ประมาณ|大约|약)\s*$"
)
PLACEHOLDER = "the number is a placeholder"
UNREADABLE = (  # the reason for a line that holds no quantity at all
    (
        re.compile(r"\{\{|\btbd\b|\bxx+\b|needs clarification|\[[^\]]*\b(?:x|n|number)\b[^\]]*\]|_{3,}|<[xn]>"),
        PLACEHOLDER,
    ),
    (
        re.compile(r"\b(?:concurrent|simultaneous|active|parallel)\b"),
        "concurrent users are a load, not something to keep under a limit",
    ),
    (re.compile(r"\d ?(?:[kmgt]i?b|bytes?)\b"), "a size is no duration, share or rate"),
    (
        re.compile(
            r"\b(?:wcag|tls|ssl|aes|sha|rsa|iso|rfc|pci|http|oauth|ipv|gdpr|utf|owasp)\b|\bv?\d+\.\d+(?:\.\d+)+"
        ),
        "the number names a standard or version",
    ),
    (
        re.compile(
            r"\d ?(?:steps?|clicks?|taps?|fields?|characters?|items?|users?|levels?|fps|px|pt|points?)\b"
            r"|\d(?:\.\d)?:1\b"
        ),
        "a count is no duration, share or rate",
    ),
)

# ---- languages and names ------------------------------------------------------------------------------------------

SCRIPTS = (("th", "[\u0e00-\u0e7f]"), ("ja", "[\u3040-\u30ff]"), ("ko", "[\uac00-\ud7af]"), ("zh", "[\u4e00-\u9fff]"))
COMMA_LANGS = frozenset({"de", "fr", "es", "pt", "it", "nl"})  # they write 1.000,5
LANG_WORDS = {
    "de": any_of(
        r"""muss|müssen|darf|nicht|mindestens|höchstens|unter|weniger|innerhalb|anfragen|sekunden?|verfügbarkeit|latenz
        antwortzeit\w*|für|und|über|fehlerrate|werden|prozent|maximal|pro|durchsatz|auslastung|beträgt|im|der"""
    ),
    "fr": any_of(
        r"""moins|doit|doivent|requêtes|réponse|secondes?|disponibilité|inférieure?|supérieure?|pour|temps|taux|erreurs?
        est|sont|chaque|débit|d'erreur|centile|au|le"""
    ),
    "es": any_of(
        r"""menos|debe|deben|segundos|tiempos?|disponibilidad|solicitudes|respuesta|tasa|errores|latencia|inferior
        peticiones|como|del|capacidad|por|el|la|no"""
    ),
    "pt": any_of(
        r"""deve|devem|tempos? de|disponibilidade|pelo|segundos|requisições|resposta|taxa|erros|latência|abaixo|não|são
        no máximo"""
    ),
    "it": any_of(
        "deve|devono|tempo di|disponibilità|almeno|meno|secondi|richieste|risposta|tasso|errori|latenza|entro"
    ),
    "nl": any_of(
        "moet|moeten|minstens|hoogstens|binnen|seconden|beschikbaarheid|responstijd|minder|verzoeken|niet|van"
    ),
}
VERB = re.compile(  # a subject ends before it
    r"\b(?:must|shall|should|will|may|can|is|are|be|has|have|needs? to|within|takes?|completes?|responds?|loads?"
    r"|returns?|achieves?|maintains?|handles?|supports?|stays?|never|of at|under|at least|muss|müssen|darf|doit|doivent"
    r"|debe|deben|deve|devem)\b.*$|ต้อง.*$|应.*$|必须.*$|は.*$",
    re.IGNORECASE,
)


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


MEASURE = _set(  # words a subject neither begins nor ends with
    "response responses time times latency latencies duration average avg mean median the a an all for of in on to and "
    "with target maximum max minimum uptime availability throughput percentile at by"
)
NOT_A_SUBJECT = _set(  # words that name nothing by themselves
    "system service api it application app platform solution requirement requirements performance reliability that "
    "success criteria acceptance technical non-functional nonfunctional functional scalability quality attributes goal "
    "goals objectives targets sla slo slos outcomes measurable metrics expected output constraints standards level use "
    "indicators nfr support must shall handle efficiency speed capacity every each total & this usually"
)
