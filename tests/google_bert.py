"""Google's BERT as a TensorFlow 1 graph, after the description in its modeling.py.

Names by nested variable scopes.

Its variables and its forward pass owe nothing to bertlite: they are the oracle of the conversion
tests. Shapes: `B` batch, `T` length, `E` hidden size, `H` heads, `D` head size.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CONFIG = {"vocab_size": 40, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3}
CONFIG |= {
    "intermediate_size": 20,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
}
CONFIG |= {
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
}
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "film",
    "was",
    "good",
    "bad",
    "##ly",
    "##s",
    ".",
    "cafe",
]
VOCABULARY = [*WORDS, *(f"[unused{number}]" for number in range(CONFIG["vocab_size"] - len(WORDS)))]
IDS = np.array([[2, 5, 6, 7, 8, 3], [2, 9, 10, 3, 0, 0]])  # (B, T)
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
SEGMENTS = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0]])
LABELS = 3


@dataclass
class Written:
    """A checkpoint that TensorFlow wrote.

    Its folder, the values in it and what the graph made of `IDS`.
    """

    folder: Path
    values: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


class Graph:
    """Builds the graph of the heads asked for in the default graph; `outputs` by name."""

    def __init__(self, tensorflow, heads):
        self.tf, self.v1 = tensorflow, tensorflow.compat.v1
        self.outputs = {}
        with self.v1.variable_scope("bert"):
            states, pooled = self.bert()
        self.outputs |= {"states": states, "pooled": pooled}
        for head in heads:
            getattr(self, head)(states, pooled)

    def weight(self, name, *shape):
        return self.v1.get_variable(
            name, shape, initializer=self.v1.zeros_initializer(), use_resource=False
        )

    def dense(self, name, x, units, activation=None):
        with self.v1.variable_scope(name):
            y = self.tf.tensordot(x, self.weight("kernel", x.shape[-1], units), 1) + self.weight(
                "bias", units
            )
        return y if activation is None else activation(y)

    def norm(self, x):
        with self.v1.variable_scope("LayerNorm"):
            beta, gamma = self.weight("beta", x.shape[-1]), self.weight("gamma", x.shape[-1])
        mean, variance = self.tf.nn.moments(x, [-1], keepdims=True)
        return (x - mean) * self.tf.math.rsqrt(variance + 1e-12) * gamma + beta

    def gelu(self, x):
        return 0.5 * x * (1.0 + self.tf.math.erf(x / math.sqrt(2.0)))

    def bert(self):
        tf, hidden = self.tf, CONFIG["hidden_size"]
        with self.v1.variable_scope("embeddings"):
            self.words = self.weight("word_embeddings", CONFIG["vocab_size"], hidden)
            segments = self.weight("token_type_embeddings", CONFIG["type_vocab_size"], hidden)
            positions = self.weight(
                "position_embeddings", CONFIG["max_position_embeddings"], hidden
            )
            x = (
                tf.gather(self.words, IDS)
                + tf.gather(segments, SEGMENTS)
                + positions[None, : IDS.shape[1]]
            )
            x = self.norm(x)  # (B, T, E)
        with self.v1.variable_scope("encoder"):
            for number in range(CONFIG["num_hidden_layers"]):
                with self.v1.variable_scope(f"layer_{number}"):
                    x = self.layer(x)
        with self.v1.variable_scope("pooler"):
            return x, self.dense("dense", x[:, 0], hidden, tf.tanh)

    def layer(self, x):
        hidden = CONFIG["hidden_size"]
        with self.v1.variable_scope("attention"):
            with self.v1.variable_scope("self"):
                context = self.attention(x)
            with self.v1.variable_scope("output"):
                x = self.norm(self.dense("dense", context, hidden) + x)
        with self.v1.variable_scope("intermediate"):
            wide = self.dense("dense", x, CONFIG["intermediate_size"], self.gelu)
        with self.v1.variable_scope("output"):
            return self.norm(self.dense("dense", wide, hidden) + x)

    def attention(self, x):
        tf, heads = self.tf, CONFIG["num_attention_heads"]
        batch, length, hidden = x.shape

        def split(name):
            flat = tf.reshape(self.dense(name, x, hidden), [batch, length, heads, hidden // heads])
            return tf.transpose(flat, [0, 2, 1, 3])  # (B, H, T, D)

        query, key, value = split("query"), split("key"), split("value")
        scores = tf.matmul(query, key, transpose_b=True) / math.sqrt(
            hidden // heads
        )  # (B, H, T, T)
        scores += (1.0 - tf.constant(MASK, tf.float32)[:, None, None, :]) * -10000.0
        context = tf.transpose(tf.matmul(tf.nn.softmax(scores), value), [0, 2, 1, 3])
        return tf.reshape(context, [batch, length, hidden])

    def last(self, x, units):
        weights = self.weight("output_weights", units, x.shape[-1])
        return self.tf.tensordot(x, weights, [[-1], [1]]) + self.weight("output_bias", units)

    def predictions(self, states, pooled):
        with self.v1.variable_scope("cls/predictions"):
            with self.v1.variable_scope("transform"):
                x = self.norm(self.dense("dense", states, CONFIG["hidden_size"], self.gelu))
            logits = self.tf.tensordot(x, self.words, [[-1], [1]]) + self.weight(
                "output_bias", CONFIG["vocab_size"]
            )
        self.outputs["predictions"] = logits

    def relationship(self, states, pooled):
        with self.v1.variable_scope("cls/seq_relationship"):
            self.outputs["relationship"] = self.last(pooled, 2)

    def classifier(self, states, pooled):
        self.outputs["classifier"] = self.last(pooled, LABELS)

    def tagger(self, states, pooled):
        self.outputs["tagger"] = self.last(states, LABELS)

    def choice(self, states, pooled):
        self.outputs["choice"] = self.last(pooled, 1)

    def squad(self, states, pooled):
        with self.v1.variable_scope("cls/squad"):
            self.outputs["squad"] = self.last(states, 2)

    def slots(self):
        """What Google's optimizer adds: two variables beside each weight, and the step."""
        for variable in self.v1.trainable_variables():
            for slot in ("adam_m", "adam_v"):
                self.weight(f"{variable.op.name}/{slot}", *variable.shape)
        self.v1.train.get_or_create_global_step()


def write(
    tensorflow, folder: Path, heads, name: str = "bert_model.ckpt", extra=(), seed: int = 0
) -> Written:
    """Let TensorFlow's own Saver write a checkpoint of random values, as a folder of Google's
    release.
    """
    v1, generator = tensorflow.compat.v1, np.random.default_rng(seed)
    folder.mkdir(parents=True)
    with tensorflow.Graph().as_default(), v1.Session() as session:
        graph = Graph(tensorflow, heads)
        graph.slots()
        for title, *shape in extra:
            graph.weight(title, *shape)
        values = {}
        for variable in v1.global_variables():
            value = generator.normal(
                variable.op.name.endswith("gamma"), 0.3, variable.shape.as_list()
            )
            values[variable.op.name] = value.astype(variable.dtype.base_dtype.as_numpy_dtype)
            variable.load(values[variable.op.name], session)
        v1.train.Saver().save(session, str(folder / name), write_state=False)
        outputs = session.run(graph.outputs)
    (folder / "bert_config.json").write_text(json.dumps(CONFIG))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    return Written(folder, values, outputs)


def restore(tensorflow, prefix: Path, heads) -> tuple[dict[str, np.ndarray], set[str]]:
    """Run Google's graph on a checkpoint.

    As with its init_checkpoint, a variable that is not there starts anew.

    Returns:
        The outputs, and the names of the variables that the checkpoint lacks.
    """
    v1 = tensorflow.compat.v1
    with tensorflow.Graph().as_default(), v1.Session() as session:
        graph = Graph(tensorflow, heads)
        session.run(v1.global_variables_initializer())
        there = {name for name, _ in tensorflow.train.list_variables(str(prefix))}
        v1.train.Saver([v for v in v1.global_variables() if v.op.name in there]).restore(
            session, str(prefix)
        )
        return session.run(graph.outputs), {v.op.name for v in v1.global_variables()} - there
