"""Logits of the engine against PyTorch's on the same weights.

    torch_logits.py WRITE_LOGITS

Runs WRITE_LOGITS (tests/write_logits.c) on a fresh directory, reads each model
that it wrote by the published layout alone, and computes its logits with
PyTorch in the type of the weights.  The largest difference is at most 1e-5 of
the largest logit in float32 and 1e-10 in float64.  Exit status 77: skipped.
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

try:
    import torch
except ImportError:
    print("SKIP: python3-torch is not installed")
    sys.exit(77)

TYPES = {"F32": torch.float32, "F64": torch.float64}
LIMITS = {torch.float32: 1e-5, torch.float64: 1e-10}


def read_array(raw, dtype, shape):
    return torch.frombuffer(bytearray(raw), dtype=dtype).reshape(shape)


def read_safetensors(path):
    with open(path, "rb") as file:
        raw = file.read()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + length])
    metadata = header.pop("__metadata__")
    assert metadata["format"] == "pt", metadata
    data = raw[8 + length:]
    return {name: read_array(data[slice(*t["data_offsets"])],
                             TYPES[t["dtype"]], t["shape"])
            for name, t in header.items()}


def rms_norm(x, weight, epsilon):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * weight


def rotate(x, cosine, sine):
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cosine - second * sine,
                      second * cosine + first * sine], -1)


def logits_of(config, weights, tokens):
    """[batch, length] ids to [batch, length, vocab]."""
    dim = config["hidden_size"]
    heads = config["num_attention_heads"]
    key_heads = config["num_key_value_heads"]
    head_dim = config.get("head_dim") or dim // heads
    epsilon = config["rms_norm_eps"]
    theta = config["rope_theta"]
    batch, length = tokens.shape
    embedding = weights["model.embed_tokens.weight"]
    dtype = embedding.dtype

    frequencies = theta ** (-torch.arange(0, head_dim, 2,
                                          dtype=torch.float64) / head_dim)
    angles = torch.outer(torch.arange(length, dtype=torch.float64),
                         frequencies)
    cosine, sine = angles.cos().to(dtype), angles.sin().to(dtype)
    mask = torch.full((length, length), float("-inf"), dtype=dtype).triu(1)

    x = embedding[tokens]
    for i in range(config["num_hidden_layers"]):
        def get(name, layer=i):
            return weights["model.layers.%d.%s" % (layer, name)]

        def project(y, name, count, layer=i):
            z = y @ get("self_attn.%s_proj.weight" % name).T
            bias = weights.get("model.layers.%d.self_attn.%s_proj.bias"
                               % (layer, name))
            if bias is not None:
                z = z + bias
            return z.view(batch, length, count, head_dim).transpose(1, 2)

        y = rms_norm(x, get("input_layernorm.weight"), epsilon)
        q = rotate(project(y, "q", heads), cosine, sine)
        k = rotate(project(y, "k", key_heads), cosine, sine)
        v = project(y, "v", key_heads)
        k = k.repeat_interleave(heads // key_heads, 1)
        v = v.repeat_interleave(heads // key_heads, 1)
        p = torch.softmax(q @ k.transpose(2, 3) / head_dim ** 0.5 + mask, -1)
        y = (p @ v).transpose(1, 2).reshape(batch, length, heads * head_dim)
        x = x + y @ get("self_attn.o_proj.weight").T
        y = rms_norm(x, get("post_attention_layernorm.weight"), epsilon)
        gate = y @ get("mlp.gate_proj.weight").T
        up = y @ get("mlp.up_proj.weight").T
        x = x + (torch.nn.functional.silu(gate) * up) \
            @ get("mlp.down_proj.weight").T
    x = rms_norm(x, weights["model.norm.weight"], epsilon)
    head = embedding if config["tie_word_embeddings"] \
        else weights["lm_head.weight"]
    return x @ head.T


def check(directory):
    """True when the engine's logits are PyTorch's."""
    def read(name):
        with open(os.path.join(directory, name), "rb") as file:
            return file.read()

    config = json.loads(read("config.json"))
    weights = read_safetensors(os.path.join(directory, "model.safetensors"))
    raw = read("tokens.i32")
    tokens = read_array(raw, torch.int32, (2, -1)).long()
    expected = logits_of(config, weights, tokens)
    found = read_array(read("logits.bin"), expected.dtype, expected.shape)
    ratio = ((found - expected).abs().max() / expected.abs().max()).item()
    fine = ratio <= LIMITS[expected.dtype]
    print("%-4s %s: %s, largest difference %.2e of the largest logit"
          % ("ok" if fine else "FAIL", os.path.basename(directory),
             config["architectures"][0], ratio))
    return fine


def main():
    shared = os.path.join(os.environ.get("QRB_SHARED", ""), "data", "models")
    models = [os.path.join(shared, "stories260K", "stories260K.bin"),
              os.path.join(shared, "stories260K-hf")]
    for path in [m for m in models if not os.path.exists(m)]:
        print("SKIP: %s is not there" % path)
        models.remove(path)
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([sys.argv[1], directory] + models, check=True)
        with torch.no_grad():
            results = [check(os.path.join(directory, name))
                       for name in sorted(os.listdir(directory))]
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
