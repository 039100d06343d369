"""Texts that break what is not careful, for tests of all that reads or writes text."""

from hypothesis import strategies as st

NASTY = (
    "plain text, don't you'll I'D   \t\n\n  \r\n indented\n"  # blanks, contractions
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea"  # emoji, joined
    " e\u0301\u0323 q\u0307 \u200b\u200d\u2060\ufeff \u0600\u202e rtl \u202c"  # combining, no width
    " \u65e5\u672c\u8a9e\u3067\u3059\u3002\uac00\u1112\u1161\u11ab"  # CJK, syllables in parts
    " \x00\x01\x07\x1b[0m\x7f\x85\u2028\u2029\xa0\u3000"  # control characters, rare blanks
    " \ud83d \ude00\ud83d\udfff"  # lone surrogates
    " 1234567890 \u0661\u0662 \xb2\xbd \u216b !!!??? ...---___ <|endoftext|>" + " " * 50
)

# Anything a Python string can hold: lone surrogates too, which chance alone would hardly draw.
any_text = st.text(st.characters() | st.characters(categories=["Cs"]) | st.sampled_from(NASTY))
