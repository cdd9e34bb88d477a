"""Language models that run on libaiter's operators alone.

Nothing here is imported by ``import aiter``.  The modules need NumPy; the tokenizer needs
``tokenizers``, chat templates need ``jinja2``: ``pip install libaiter[generate]`` brings them all.
"""
