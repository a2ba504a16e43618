"""Options that say that there is no answer, in the words of surveys in six languages."""

import re
import unicodedata
from collections.abc import Collection

from cuma_jax.surveys.scales.order import is_no_answer

_WORDS = re.compile(
    r"(missing|inapplicable|inap|iap|not (stated|available|answered|ascertained|mentioned by|applicable)|no (data|"
    r"experience|contact|opinion|reply|information)|unknown|blank|skipped|(do not|don t|doesn t|did not) (know|"
    r"understand|remember|recall)|(can ?not|can t|could not) (determine|remember|say|choose|tell|decide|answer)|"
    r"(will|would) "
    r"not (say|answer)|(have not|haven t) heard|unable to (answer|say|determine)|system missing|"
    r"undetermined|"
    # German
    r"weiss (es )?nicht|weiss nicht|keine? (angaben?|antwort|meinung|aussage)|k a|kann (ich )?(das )?nicht (sagen|"
    r"beurteilen|wahlen)|verweiger\w*|trifft nicht zu (frage|filter)\w*|nicht (erhoben|zutreffend|erfasst|gefragt)|"
    r"mochte (ich )?nicht (sagen|antworten)|"
    # French
    r"(je )?ne (sait|sais|savent) pas|nsp|nspp|ne se prononce pas|(ne )?(veut|souhaite|souhaitez) pas repondre|"
    r"sans (opinion|"
    r"reponse|objet)|(pas de|non) reponse|non (concerne|applicable|pose|reponse)\w*|"
    # Spanish
    r"no (sabe|se|contesta|responde|aplica|aplicable|procede|recuerda)|ns ?(nc)?|nc|ns nr|sin (respuesta|"
    r"opinion|datos)|"
    r"rechaza\w*|prefiero no|"
    # Portuguese
    r"nao (sabe|sei|respond\w+|se aplica|aplicavel|lembr\w+)|recus\w+|sem (resposta|opiniao)|prefir\w+ nao|n[sr]|"
    # Italian
    r"non (so|sa|rispond\w+|applicabile|ricordo|pertinente)|rifiut\w+|nessuna (risposta|opinione)|senza risposta|"
    r"prefer\w+ non)( .*)?|refus|refus de .*"
)


def means_no_answer(text: str, beside: Collection[str] = ()) -> bool:
    """Whether a label says that there is no answer, more widely than `is_no_answer`: also in German, French, Spanish,
    Portuguese and Italian, and as files of answers say it ("Missing", "Not asked in Norland", "No experience").
    `beside` are the question's labels.
    """
    if not text:
        return False
    letters = unicodedata.normalize("NFKD", text.replace("\u00df", "ss").casefold())
    bare = "".join(c for c in letters if not unicodedata.combining(c))
    return is_no_answer(text, beside) or _WORDS.fullmatch(" ".join(re.findall(r"[^\W_]+", bare))) is not None
