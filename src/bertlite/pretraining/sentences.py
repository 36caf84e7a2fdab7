"""Paragraphs cut into sentences by Unicode's properties; no model, no language.

Source: Unicode Standard Annex #29, section 5 (Sentence Boundaries). Its characters that end a
sentence are taken as they are, in every script; where it cuts too often for text of the web, as
before a small letter or inside "example.org", more is asked.
"""

import regex

# White space must follow these, and then no small letter: they also stand inside names, numbers
# and addresses. Deviation: UAX #29 cuts after ! and ? whatever follows, and knows no ellipsis.
SPACED = r"[\p{Sentence_Break=ATerm}!?…‥‼‽⁇⁈⁉--．]"
# These stand between sentences only, perhaps without white space: । ۔ ؟ 。 ！ ？ ። ။ ។ and such.
ALONE = r"[\p{Sentence_Break=STerm}．--[!?‼‽⁇⁈⁉]]"
# What closes a sentence after its end: marks on it, quotes, brackets. Deviation: UAX #29 takes
# opening ones too, and so gives the first quote of a sentence to the one before it.
CLOSING = r"[\p{M}\p{Pe}\p{Pf}\"']*"
OPENING = r"[\p{Ps}\p{Pi}\p{Pf}„‚\"'¿¡]*"
END = regex.compile(
    rf"(?<={SPACED}){CLOSING}\s+(?={OPENING}[\w--_--\p{{Lowercase}}])"
    rf"|(?<={ALONE}){CLOSING}\s*"
    # SB8a, and half of SB6 and SB8: no sentence begins with a comma, or ends within a number.
    r"(?![\s\p{Sentence_Break=SContinue}\p{Sentence_Break=STerm}\p{Sentence_Break=ATerm}]"
    rf"|(?<=．{CLOSING})[\p{{Nd}}\p{{Lowercase}}]|$)"
    r"|\s*[\x85\u2028\u2029]\s*",  # SB4
    regex.V1,
)
ABBREVIATION = regex.compile(
    r"(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|etc|e\.g|i\.e|cf|al|No|Nr|Fig|fig|vol"
    r"|pp?|z\.B|bzw|ca)\.$"
)


def split_sentences(paragraph: str) -> list[str]:
    """Cut a paragraph into sentences by simple rules, which need no model and no language.

    A sentence ends with . ! ? or …, perhaps a closing quote or bracket, when white space and then
    a letter that is not a small one, or a digit, follow; or with another of Unicode's sentence
    terminals, such as those of Chinese, Hindi, Urdu, Arabic, Amharic or Burmese. Initials ("J.")
    and common abbreviations do not end one. It errs at times, mostly by leaving two sentences
    together, which BERT's segments bear: they hold several.

    >>> split_sentences('Dr. Who came. "Why?" he asked! Nobody knew.')
    ['Dr. Who came.', '"Why?" he asked!', 'Nobody knew.']
    """
    sentences, start = [], 0
    for match in END.finditer(paragraph):
        closing = match.group().rstrip()
        piece = paragraph[start : match.start() + len(closing)].strip()
        if piece and not ABBREVIATION.search(piece):
            sentences.append(piece)
            start = match.end()
    rest = paragraph[start:].strip()
    return [*sentences, rest] if rest else sentences


def sentences_of(text: str, lines: str) -> list[str]:
    """Sentences of one document, of which each line is a "sentence" or a "paragraph".

    Only line feeds and carriage returns end a line; blank lines count for nothing.
    """
    found = (line.strip() for line in regex.split(r"[\r\n]+", text))
    if lines == "sentence":
        return [line for line in found if line]
    return [sentence for line in found if line for sentence in split_sentences(line)]
