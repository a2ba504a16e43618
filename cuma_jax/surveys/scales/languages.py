"""Scales in German, French, Spanish, Portuguese and Italian: words by how strong they are, and answers in their order.

All without accents and capitals, as `bare` gives them.
"""

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

_PLAIN = 5  # of a word with none beside it that says how strong


@dataclasses.dataclass(frozen=True)
class Language:
    """How a language says that something is more or less.

    Attributes:
        degrees: how strong a word makes what it stands beside: words by strength, negative for denials.
        heads: pairs (words, their opposites), each a list of alternatives; "stimme ... zu" may stand apart.
        neutral: a pattern of what is on neither side.
        scales: each from most to least; what one place holds means the same.
        fillers: words that say nothing of the strength.
    """

    degrees: Mapping[int, str]
    heads: Sequence[tuple[str, str]]
    neutral: str
    scales: Sequence[str]
    fillers: str

    @functools.cached_property
    def level(self) -> dict[str, int]:
        """The strength of each word."""
        return {word.strip(): level for level, words in self.degrees.items() for word in words.split(",")}


GERMAN = Language(
    degrees={
        8: "voll und ganz,voll,vollig,vollkommen,vollstandig,ganz und gar,absolut,ausserst,extrem,"
           "uneingeschrankt,komplett,"
           "sehr stark,sehr viel,ausserordentlich,ganz sicher,bestimmt,sehr grosses,sehr gross",
        7: "sehr,stark,viel,vieles,sehr oft,grosses,gross,hoch,sicher",
        4: "eher,ziemlich,ziemlich viel,recht,uberwiegend,weitgehend,einigermassen viel,ziemlich grosses,"
           "wahrscheinlich",
        3: "etwas,teilweise,massig,mittelmassig,einigermassen,zum teil,einiges",
        2: "ein wenig,ein bisschen,wenig,weniger,kaum,geringes,gering,ein wenig mehr,nicht viel,wenig grosses",
        -2: "nicht sehr,nicht so,nicht besonders,eher wenig",
        -3: "eher nicht,eher kein,wahrscheinlich nicht",
        -4: "nicht,kein,keine,keinen",
        -8: "uberhaupt nicht,gar nicht,ganz und gar nicht,uberhaupt kein,uberhaupt keine,gar kein,gar keine,"
            "auf keinen fall,"
            "bestimmt nicht,uberhaupt nichts",
    },
    heads=[
        ("stimme ... zu|stimmt|stimme|zustimmung", "lehne ... ab|ablehnung"), ("trifft ... zu", ""),
        ("einverstanden", ""), ("zufrieden", "unzufrieden"), ("wichtig", "unwichtig"),
        ("wahrscheinlich", "unwahrscheinlich"), ("glucklich", "unglucklich"), ("gut", "schlecht"),
        ("besser", "schlechter"), ("mehr", "weniger"), ("interessiert", "uninteressiert"), ("interesse", ""),
        ("vertrauen|vertraue", "misstrauen"), ("dafur", "dagegen"), ("sicher", "unsicher"), ("stolz", ""),
        ("gerecht", "ungerecht"), ("leicht|einfach", "schwer|schwierig"), ("oft|haufig", "selten"), ("besorgt", ""),
        ("gesund", "krank"), ("stark", "schwach"), ("positiv", "negativ"), ("religios", ""), ("hoch", "niedrig"),
    ],
    neutral=r"weder .*noch.*|weder noch|neutral|unentschieden|teils teils|mittel(massig)?|(etwa |ungefahr )?gleich.*|"
            r"unverandert|halb halb",
    scales=[
        "immer|fast immer|sehr oft,sehr haufig|oft,haufig,meistens|manchmal,gelegentlich,ab und zu,"
        "hin und wieder|selten|"
        "sehr selten,fast nie|nie,niemals",
        "taglich,jeden tag|mehrmals pro woche,mehrmals die woche,mehrmals in der woche|"
        "wochentlich,einmal pro woche,einmal die woche,jede woche|mehrmals im monat|monatlich,einmal im monat,"
        "jeden monat|"
        "mehrmals im jahr|jahrlich,einmal im jahr|seltener|nie,niemals",
        "ausgezeichnet,hervorragend|sehr gut|gut|befriedigend,mittelmassig|ausreichend|schlecht,mangelhaft|"
        "sehr schlecht",
        "alle|fast alle|die meisten|einige|wenige|fast keine|keine",
        "sehr viel|viel,ziemlich viel|etwas,einiges|wenig,nicht viel|sehr wenig|gar nicht,nichts,gar nichts,"
        "uberhaupt nichts",
        "sehr hoch|hoch|mittel|niedrig|sehr niedrig",
        "ja|teilweise,teils teils,vielleicht,manchmal|nein",
        "ja bestimmt,ja auf jeden fall,auf jeden fall|ja wahrscheinlich,eher ja,wahrscheinlich ja|vielleicht|"
        "eher nein,nein wahrscheinlich nicht,wahrscheinlich nein|nein bestimmt nicht,nein auf keinen fall,"
        "auf keinen fall",
    ],
    fillers="ich|bin|habe|es|ist|dem|der|das|war",
)  # fmt: skip
FRENCH = Language(
    degrees={
        8: "tout a fait,totalement,completement,fortement,entierement,absolument,parfaitement,extremement,"
           "enormement de,"
           "enormement,certainement,beaucoup de,beaucoup,une grande,tres grande",
        7: "tres,vraiment,grande",
        5: "",
        4: "plutot,assez,assez de,probablement,bien,moderement",
        3: "moyennement,partiellement,en partie,une certaine,quelque",
        2: "un peu,un peu de,legerement",
        1: "peu,peu de,faible",
        -1: "tres peu,tres peu de",
        -2: "pas tres,pas tellement,pas trop,guere,pas beaucoup,pas beaucoup de",
        -3: "plutot pas,pas vraiment,probablement pas",
        -4: "pas,non,pas de",
        -8: "pas du tout,absolument pas,aucunement,aucune,pas du tout de,certainement pas",
    },
    heads=[
        ("d accord", "en desaccord|desaccord"),
        ("satisfait|satisfaite|satisfait e", "insatisfait|insatisfaite|mecontent"),
        ("important|importante", ""), ("probable", "improbable"), ("confiance", "mefiance|defiance"),
        ("favorable", "defavorable|oppose|opposee"), ("heureux|heureuse", "malheureux|malheureuse"),
        ("interesse|interessee", ""), ("bon|bonne|bien", "mauvais|mauvaise|mal"),
        ("mieux|meilleur|meilleure", "pire|moins bien"),
        ("pour", "contre"), ("inquiet|inquiete", ""), ("fier|fiere", ""), ("facile", "difficile"),
        ("juste", "injuste"),
        ("vrai", "faux"), ("utile", "inutile"), ("positif|positive", "negatif|negative"), ("souvent", ""),
        ("religieux", ""),
    ],
    neutral=r"ni .*ni .*|neutre|indifferent e?|indifferent|sans changement|(a peu pres |toujours )?(pareil|"
            r"la meme chose|"
            r"identique|le meme)|moyen(nement)?|partage e?|entre les deux",
    scales=[
        "toujours|presque toujours|tres souvent|souvent,frequemment|"
        "parfois,quelquefois,de temps en temps,occasionnellement|rarement|tres rarement,presque jamais|jamais",
        "tous les jours,chaque jour,quotidiennement|plusieurs fois par semaine|une fois par semaine,chaque semaine|"
        "plusieurs fois par mois|une fois par mois,chaque mois|plusieurs fois par an|une fois par an|"
        "moins souvent|jamais",
        "excellent,excellente|tres bon,tres bien,tres bonne|bon,bien,bonne|moyen,passable,correct|mauvais,"
        "mauvaise,mal|"
        "tres mauvais,tres mauvaise,tres mal",
        "tous,toutes|presque tous,presque toutes|la plupart|certains,quelques uns|peu|presque aucun|aucun,aucune",
        "enormement|beaucoup|assez|un peu|peu,pas beaucoup|tres peu|pas du tout,rien,rien du tout",
        "tres eleve|eleve|moyen|faible,bas|tres faible,tres bas",
        "oui|parfois,en partie,peut etre|non",
        "oui certainement,oui tout a fait,certainement|oui probablement,plutot oui,probablement|peut etre|"
        "plutot non,non probablement pas,probablement pas|non certainement pas,non pas du tout,certainement pas",
    ],
    fillers="je|suis|fais|est|c|l|a|en|une|de|j|ai",
)  # fmt: skip
SPANISH = Language(
    degrees={
        8: "totalmente,completamente,absolutamente,plenamente,extremadamente,muchisimo,muchisima,fuertemente,"
           "con seguridad,"
           "mucha,mucho",
        7: "muy",
        5: "",
        4: "bastante,mas bien,probablemente",
        3: "algo,parcialmente,en parte,moderadamente,alguna,algun,regular",
        2: "un poco,ligeramente,un poco de",
        1: "poco,poca",
        -1: "muy poco,muy poca",
        -2: "no muy,no mucho,no demasiado,no mucha",
        -4: "no,sin",
        -8: "nada,nada de,para nada,en absoluto,ninguna,ningun,de ningun modo",
    },
    heads=[
        ("de acuerdo|acuerdo", "en desacuerdo|desacuerdo"),
        ("satisfecho|satisfecha|satisfecho a", "insatisfecho|insatisfecha"),
        ("importante", ""), ("probable", "improbable"), ("confianza|confio", "desconfianza|desconfio"),
        ("a favor|favor", "en contra|contra"), ("feliz", "infeliz"), ("interesado|interesada|interes", ""),
        ("bueno|buena|bien", "malo|mala|mal"), ("mejor", "peor"), ("preocupado|preocupada", ""),
        ("orgulloso|orgullosa", ""),
        ("facil", "dificil"), ("justo|justa", "injusto|injusta"), ("mas", "menos"),
        ("seguro|segura", "inseguro|insegura"),
        ("util", "inutil"), ("positivo|positiva", "negativo|negativa"), ("religioso|religiosa", ""),
        ("democratico", ""),
    ],
    neutral=r"ni .*ni .*|neutral|neutro|indiferente|(mas o menos )?(igual|lo mismo)|regular|termino medio|intermedio",
    scales=[
        "siempre|casi siempre|muy a menudo,muy frecuentemente,con mucha frecuencia|"
        "a menudo,frecuentemente,muchas veces,con frecuencia|a veces,algunas veces,ocasionalmente,de vez en cuando|"
        "rara vez,raramente,pocas veces|muy rara vez,casi nunca|nunca,jamas",
        "todos los dias,diariamente,cada dia,a diario|varias veces a la semana,varias veces por semana|"
        "una vez a la semana,una vez por semana,semanalmente|varias veces al mes,varias veces por mes|"
        "una vez al mes,una vez por mes,mensualmente|varias veces al ano|una vez al ano|con menos frecuencia,"
        "menos a menudo|nunca",
        "excelente|muy bueno,muy buena,muy bien|bueno,buena,bien|regular|malo,mala,mal|muy malo,muy mala,"
        "muy mal,pesimo",
        "todos,todas|casi todos,casi todas|la mayoria|algunos,algunas|pocos,pocas|casi ninguno|ninguno,ninguna",
        "muchisimo|mucho,mucha|bastante|algo|poco,poca|muy poco|nada,ninguna",
        "muy alto|alto|medio|bajo|muy bajo",
        "si|a veces,en parte,tal vez,quizas,quiza|no",
        "definitivamente si,si definitivamente,seguro que si,si con seguridad|probablemente si,si probablemente,"
        "creo que si|"
        "tal vez,quizas|probablemente no,no probablemente,creo que no|"
        "definitivamente no,no definitivamente,seguro que no,no con seguridad",
    ],
    fillers="estoy|esta|es|tengo|le|lo|un|una|de|con",
)  # fmt: skip
PORTUGUESE = Language(
    degrees={
        8: "totalmente,completamente,absolutamente,plenamente,extremamente,muitissimo,muitissima,fortemente,"
           "com certeza,"
           "muito fortemente",
        7: "muito,muita",
        5: "",
        4: "bastante,provavelmente,mais para",
        3: "parcialmente,em parte,moderadamente,alguma,algum,mais ou menos,razoavelmente",
        2: "um pouco,ligeiramente,um pouco de",
        1: "pouco,pouca",
        -1: "muito pouco,muito pouca",
        -2: "nao muito,nao muita",
        -4: "nao,sem",
        -8: "nada,nenhuma,nenhum,de modo nenhum,de forma alguma,de jeito nenhum",
    },
    heads=[
        ("concordo|de acordo", "discordo|em desacordo"),
        ("satisfeito|satisfeita|satisfeito a", "insatisfeito|insatisfeita"),
        ("importante", ""), ("provavel", "improvavel"), ("confianca|confio", "desconfianca|desconfio"),
        ("a favor", "contra"), ("feliz", "infeliz"), ("interessado|interessada|interesse", ""),
        ("bom|boa|bem", "mau|ma|ruim|mal"), ("melhor", "pior"), ("preocupado|preocupada", ""), ("facil", "dificil"),
        ("justo|justa", "injusto|injusta"), ("mais", "menos"), ("seguro|segura", "inseguro|insegura"),
        ("orgulhoso", ""),
        ("util", "inutil"), ("positivo|positiva", "negativo|negativa"), ("religioso|religiosa", ""),
    ],
    neutral=r"nao .* nem .*|nem .*nem .*|neutro|neutra|indiferente|(mais ou menos )?(igual|o mesmo|"
            r"a mesma coisa)|regular|"
            r"mais ou menos",
    scales=[
        "sempre|quase sempre|muito frequentemente,com muita frequencia|frequentemente,muitas vezes,com frequencia|"
        "as vezes,algumas vezes,ocasionalmente,de vez em quando|raramente,poucas vezes|muito raramente,quase nunca|"
        "nunca,jamais",
        "todos os dias,diariamente,cada dia|varias vezes por semana|uma vez por semana,semanalmente|"
        "varias vezes por mes|"
        "uma vez por mes,mensalmente|varias vezes por ano|uma vez por ano|menos frequentemente,menos vezes|nunca",
        "otimo,otima,excelente|muito bom,muito boa|bom,boa,bem|regular,razoavel|mau,ruim,ma|muito mau,"
        "muito ruim,pessimo,pessima",
        "todos,todas|quase todos,quase todas|a maioria|alguns,algumas|poucos,poucas|quase nenhum|nenhum,nenhuma",
        "muitissimo|muito,muita|bastante|algo,um pouco|pouco,pouca|muito pouco|nada,nenhuma",
        "muito alto|alto|medio|baixo|muito baixo",
        "sim|as vezes,em parte,talvez|nao",
        "sim com certeza,com certeza sim,definitivamente sim|sim provavelmente,provavelmente sim|talvez|"
        "nao provavelmente,provavelmente nao|nao com certeza,com certeza nao,definitivamente nao",
    ],
    fillers="estou|esta|e|tenho|um|uma|de",
)  # fmt: skip
ITALIAN = Language(
    degrees={
        8: "completamente,totalmente,del tutto,pienamente,assolutamente,moltissimo,moltissima,fortemente,"
           "estremamente,"
           "certamente",
        7: "molto,molta",
        5: "",
        4: "abbastanza,piuttosto,probabilmente",
        3: "in parte,parzialmente,moderatamente,qualche,una certa",
        2: "un po,leggermente,un po di",
        1: "poco,poca",
        -1: "molto poco,pochissimo,pochissima",
        -2: "non molto,non tanto,non molta",
        -4: "non,no,senza",
        -8: "per niente,per nulla,affatto,nessuna,non affatto,niente,nulla,non per niente",
    },
    heads=[
        ("d accordo|accordo", "in disaccordo|disaccordo|contrario|contraria"),
        ("soddisfatto|soddisfatta|soddisfatto a", "insoddisfatto|insoddisfatta"), ("importante", ""),
        ("probabile", "improbabile"), ("fiducia", "sfiducia"), ("favorevole", "sfavorevole|contrario|contraria"),
        ("felice", "infelice"), ("interessato|interessata", ""), ("buono|buona|bene", "cattivo|cattiva|male"),
        ("migliore|meglio", "peggiore|peggio"), ("preoccupato|preoccupata", ""), ("facile", "difficile"),
        ("giusto|giusta", "ingiusto|ingiusta"), ("sicuro|sicura", "insicuro|insicura"), ("orgoglioso|orgogliosa", ""),
        ("utile", "inutile"), ("positivo|positiva", "negativo|negativa"), ("religioso|religiosa", ""),
    ],
    neutral=r"ne .*ne .*|neutrale|neutro|indifferente|(piu o meno )?(uguale|lo stesso)|indeciso|indecisa|cosi cosi",
    scales=[
        "sempre|quasi sempre|molto spesso|spesso,frequentemente|qualche volta,a volte,talvolta,occasionalmente,"
        "ogni tanto|"
        "raramente,di rado|molto raramente,quasi mai|mai",
        "ogni giorno,tutti i giorni,quotidianamente|piu volte alla settimana,piu volte a settimana|"
        "una volta alla settimana,una volta a settimana,settimanalmente|piu volte al mese|una volta al mese,"
        "mensilmente|"
        "piu volte all anno|una volta all anno|meno spesso|mai",
        "ottimo,ottima,eccellente|molto buono,molto buona|buono,buona|discreto,sufficiente,discreta|scarso,"
        "cattivo,scarsa|"
        "pessimo,pessima,molto cattivo",
        "tutti,tutte|quasi tutti,quasi tutte|la maggior parte|alcuni,alcune|pochi,poche|quasi nessuno|nessuno,"
        "nessuna",
        "moltissimo|molto,molta|abbastanza|un po|poco,poca|molto poco,pochissimo|per niente,niente,per nulla,"
        "nulla,nessuna",
        "molto alto|alto|medio|basso|molto basso",
        "si|a volte,in parte,forse|no",
        "sicuramente si,certamente si,si certamente|probabilmente si,si probabilmente|forse|probabilmente no,"
        "no probabilmente|"
        "sicuramente no,certamente no,no certamente",
    ],
    fillers="sono|e|ho|un|una|di",
)  # fmt: skip
LANGUAGES = (GERMAN, FRENCH, SPANISH, PORTUGUESE, ITALIAN)


def bare(text: str) -> str:
    """Words of letters and digits, without accents and capitals: "S\u00ed, de acuerdo" is "si de acuerdo"."""
    letters = unicodedata.normalize("NFKD", text.casefold().replace("\u00df", "ss"))
    return " ".join(re.findall(r"[^\W_]+", "".join(c for c in letters if not unicodedata.combining(c))))


def is_middle(text: str) -> bool:
    """Whether an option is on neither side of a scale, in one of these languages."""
    return any(re.fullmatch(language.neutral, bare(text)) for language in LANGUAGES)


def places(texts: Sequence[str]) -> Iterator[list[float]]:
    """Places of the texts on every scale of these languages that holds them all, the first the most."""
    words = [bare(text) for text in texts]
    for language in LANGUAGES:
        for scale in language.scales:
            place = {word: float(n) for n, same in enumerate(scale.split("|")) for word in same.split(",")}
            if all(word in place for word in words):
                yield [place[word] for word in words]
        for ups, downs in language.heads:
            levels = [_level(word, ups, downs, language) for word in words]
            known = [level for level in levels if level is not None]
            if len(known) == len(levels) and any(known):
                yield [-level for level in known]


def _level(text: str, ups: str, downs: str, language: Language) -> float | None:
    """How much of a word, or how much of its opposite (below 0), a text says; 0 for neither,"
    " None for none of both."""
    if re.fullmatch(language.neutral, text):
        return 0
    for sign, heads in ((-1, downs), (1, ups)):
        for head in filter(None, heads.split("|")):
            pattern = r"\b" + r"\b(.*)\b".join(map(re.escape, head.split(" ... "))) + r"\b"
            match = re.search(pattern, text)
            if match is None:
                continue
            inner = match[1] if match.groups() else ""
            rest = " ".join(f"{text[: match.start()]} {inner} {text[match.end() :]}".split())
            for said in (rest, " ".join(re.sub(rf"\b({language.fillers})\b", " ", rest).split())):
                if said in language.level:
                    return sign * language.level[said]
                if not said:
                    return sign * _PLAIN
    return None
