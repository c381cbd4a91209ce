from jaxtyping import install_import_hook

install_import_hook("netllm_heads", "beartype.beartype")
