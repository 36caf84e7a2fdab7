"""How text of each language is cut into tokens before BLEU and ROUGE count them.

sacrebleu's usual tokenizer, 13a, cuts at spaces and punctuation, and rouge-score's keeps ASCII
letters and digits. Of text without spaces between words, or in another script, they see nothing,
and every score is 0. Here the language decides, or the script of the references where nobody says
the language. Nothing is downloaded for it.
"""

import importlib.util
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import regex

BLEU_DEFAULT = "13a"  # sacrebleu's own
# sacrebleu's tokenizers of these languages, best first; "char" is always there.
BLEU_TOKENIZERS = {
    "zh": ("zh",),
    "ja": ("ja-mecab", "flores200", "char"),
    "ko": ("ko-mecab", "flores200", "char"),
    **dict.fromkeys(("th", "lo", "km", "my", "bo", "dz"), ("flores200", "char")),
}
MECAB = {"ja-mecab": "MeCab", "ko-mecab": "mecab_ko"}  # the module that each of them needs
# Other codes of the same languages, and what is written as Chinese is.
SAME_LANGUAGES = {
    **dict.fromkeys(("zho", "chi", "cmn", "yue", "wuu", "lzh", "chinese"), "zh"),
    **dict.fromkeys(("jpn", "japanese"), "ja"),
    **dict.fromkeys(("kor", "korean"), "ko"),
    **dict.fromkeys(("tha", "thai"), "th"),
    "lao": "lo",
    "khm": "km",
    "mya": "my",
    "bur": "my",
    "bod": "bo",
    "tib": "bo",
    "dzo": "dz",
}
# What a letter's script says of the language.
SCRIPTS = {
    "zh": regex.compile(r"\p{Han}"),
    "ja": regex.compile(r"[\p{Hiragana}\p{Katakana}]"),
    "ko": regex.compile(r"\p{Hangul}"),
    "th": regex.compile(r"\p{Thai}"),
    "lo": regex.compile(r"\p{Lao}"),
    "km": regex.compile(r"\p{Khmer}"),
    "my": regex.compile(r"\p{Myanmar}"),
    "bo": regex.compile(r"\p{Tibetan}"),
}
SCRIPT_SHARE = 0.1  # of the letters, from which a script decides
KANA_SHARE = 0.1  # of Japanese letters, from which Chinese ones are Japanese too

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
# Joiners (U+200C, U+200D) stand inside words of Persian, Hindi and their neighbours.
MARKS = r"\p{M}\u200c\u200d"
# A letter with its marks where a script puts no spaces between words, elsewhere a whole word.
WORDS = regex.compile(
    rf"[[{UNSPACED}]&&[\p{{L}}\p{{N}}]][{MARKS}]*"
    rf"|[[\p{{L}}\p{{N}}]--[{UNSPACED}]](?:[[\p{{L}}\p{{N}}]--[{UNSPACED}]]|[{MARKS}])*",
    regex.V1,
)
STEMMED = 3  # rouge-score stems words of more letters than this


def language_of(name: str | None, texts: Iterable[str]) -> str | None:
    """The language of `BLEU_TOKENIZERS` that texts are in; None for every other language.

    Args:
        name: a code or name of the language, such as "zh", "zh-CN", "cmn_Hans" or "Japanese"; None,
            or one that is not known here: the script of the texts decides.
        texts: some text in it.

    >>> language_of("zh-CN", []), language_of(None, ["猫は好き"]), language_of("de", ["Hut"])
    ('zh', 'ja', None)
    """
    code = regex.split(r"[-_ ]", (name or "").strip().lower())[0]
    code = SAME_LANGUAGES.get(code, code)
    if code in BLEU_TOKENIZERS:
        return code
    letters = Counter(letter for text in texts for letter in text if letter.isalpha())
    counts = {
        language: sum(count for letter, count in letters.items() if script.match(letter))
        for language, script in SCRIPTS.items()
    }
    if counts["ja"] > KANA_SHARE * counts["zh"]:
        counts["ja"] += counts.pop("zh")
    found = max(counts, key=lambda language: counts[language])
    return found if counts[found] > SCRIPT_SHARE * letters.total() else None


def bleu_tokenizer(name: str | None, texts: Iterable[str]) -> str:
    """Sacrebleu's tokenizer of a language, the best that is installed.

    Japanese and Korean are cut into words by MeCab where it is installed; without it, and for
    scripts that have no tokenizer of their own, by FLORES-200's pieces where sacrebleu has them
    on disk already, else into characters.

    Args:
        name: as in `language_of`.
        texts: as in `language_of`.
    """
    language = language_of(name, texts)
    if language is None:
        return BLEU_DEFAULT
    return next(each for each in BLEU_TOKENIZERS[language] if is_installed(each))


def is_installed(tokenizer: str) -> bool:
    """Whether one of sacrebleu's tokenizers works here without a download."""
    if tokenizer in MECAB:
        return importlib.util.find_spec(MECAB[tokenizer]) is not None
    if tokenizer == "flores200":
        from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
        from sacrebleu.utils import SACREBLEU_DIR

        file = Path(SACREBLEU_DIR, "models", Path(SPM_MODELS[tokenizer]["url"]).name)
        return importlib.util.find_spec("sentencepiece") is not None and file.is_file()
    return True


class UnicodeTokenizer:
    """Words of any script for ROUGE, in the form that rouge-score asks for.

    Lower case; letters with their marks, and digits. Of ASCII text these are rouge-score's own
    tokens. Scripts without spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese,
    Tibetan) give one token a letter with its marks.

    Args:
        use_stemmer: whether English words go through Porter's stemmer, as in rouge-score.

    >>> UnicodeTokenizer().tokenize("The cat's naïve: 猫だ, बिल्ली")
    ['the', 'cat', 's', 'naïve', '猫', 'だ', 'बिल्ली']
    """

    def __init__(self, use_stemmer: bool = False):
        self.stemmer = None
        if use_stemmer:
            from nltk.stem.porter import PorterStemmer

            self.stemmer = PorterStemmer()

    def tokenize(self, text: str) -> list[str]:
        """The words of a text."""
        words = WORDS.findall(unicodedata.normalize("NFC", text).lower())
        if self.stemmer is None:
            return words
        return [
            self.stemmer.stem(word) if len(word) > STEMMED and word.isascii() else word
            for word in words
        ]
