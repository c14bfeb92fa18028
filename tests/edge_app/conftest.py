"""The small signed bundle, its models and its recordings."""

from tests.bundles import (  # noqa: F401 - pytest finds fixtures by name
    _parts,
    builder,
    bundle,
    bundle_dir,
    clean_csv,
    fake_runtime,
    make_record,
    make_tflite,
    screener_with,
    signing_key,
    tflite_screener,
    tiny_weights,
    trust_dir,
)
