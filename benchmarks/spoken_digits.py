"""Spoken digits by a small Audio Spectrogram Transformer: synthetic speech, voices held out.

espeak-ng (`apt-get install espeak-ng`) speaks the ten digits in English in several accents, pitches
and speeds by each of its voice variants: it is synthetic speech, and says nothing of people. No
voice and no accent of the held-out part is in the training part, and every clip has noise in it,
since without any the task is too easy. Clips keep their own length, from 0.2 to 0.9 s, and go in as
they are, end to end.

`python -m benchmarks spoken-digits --out FOLDER` keeps the model with its feature extractor.
"""

import argparse
import io
import subprocess
import time
import wave
from pathlib import Path

import numpy as np
import torch
from common import print_environment
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from transformers import ASTFeatureExtractor

from bertlite.models.audio_spectrogram_transformer import ASTConfig, ASTForAudioClassification

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ACCENTS = ("en-us", "en-gb", "en-gb-x-rp")
OTHER_ACCENTS = ("en-gb-scotland", "en-029", "en-gb-x-gbclan")
# Variants of espeak-ng's voice; the last four are held out.
VOICES = ("m1", "m2", "m3", "m5", "m7", "f1", "f2", "f5", "klatt", "klatt3")
HELD_OUT = ("m4", "m8", "f3", "f4")
BINS, LONGEST, BATCH = 32, 96, 32


def spoken(word: str, voice: str, speed: int, pitch: int) -> np.ndarray:
    """Samples at 16 kHz, without the silence at both ends."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", word]
    sound = subprocess.run(command, capture_output=True, check=True).stdout
    with wave.open(io.BytesIO(sound)) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768
    length = int(len(samples) * 16000 / rate)
    samples = np.interp(np.arange(length) * rate / 16000, np.arange(len(samples)), samples)
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    return samples[loud[0] : loud[-1]].astype(np.float32)


def noisy(sound: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A sound with noise, whose power falls with its frequency, 0 to 15 dB below it."""
    spectrum = np.fft.rfft(generator.standard_normal(len(sound)))
    noise = np.fft.irfft(spectrum / np.sqrt(1 + np.arange(len(spectrum))), len(sound))
    ratio = 10 ** (generator.uniform(0, 15) / 20)
    return (sound + noise * sound.std() / noise.std() / ratio).astype(np.float32)


def clips(
    voices: tuple[str, ...], accents: tuple[str, ...], draws: int, seed: int
) -> tuple[list[np.ndarray], list[int]]:
    """Each digit by each voice in each accent, `draws` times at other speeds and pitches."""
    generator = np.random.default_rng(seed)
    sounds, labels = [], []
    for voice in voices:
        for accent in accents:
            for label, word in enumerate(WORDS):
                for _ in range(draws):
                    speed, pitch = generator.integers(120, 220), generator.integers(30, 70)
                    sound = spoken(word, f"{accent}+{voice}", int(speed), int(pitch))
                    sounds.append(noisy(sound, generator))
                    labels.append(label)
    return sounds, labels


def spectrograms(extractor: ASTFeatureExtractor, sounds: list[np.ndarray]) -> list[torch.Tensor]:
    """Log mel spectrograms `(frames, bins)`, each as long as its clip, which no padding follows."""
    made = []
    for sound in sounds:
        padded = extractor(sound, sampling_rate=16000, return_tensors="pt").input_values[0]
        frames = 1 + (len(sound) - 400) // 160  # windows of 25 ms, 10 ms apart
        made.append(padded[: min(frames, LONGEST)])
    return made


def louder(clip: torch.Tensor) -> torch.Tensor:
    """A clip `(frames, bins)` with another loudness, and a band and a span hidden."""
    changed = clip + torch.randn(()) * 0.2
    band, start = int(torch.randint(0, 6, ())), int(torch.randint(0, BINS - 6, ()))
    changed[:, start : start + band] = 0
    span = int(torch.randint(0, max(1, len(clip) // 6), ()))
    begin = int(torch.randint(0, len(clip) - span, ()))
    changed[begin : begin + span] = 0
    return changed


def config() -> ASTConfig:
    """Patches of eight mel bins by eight frames, two narrow layers."""
    return ASTConfig(
        num_mel_bins=BINS,
        max_length=LONGEST,
        patch_size=8,
        frequency_stride=8,
        time_stride=8,
        num_labels=10,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        initializer_range=0.1,
        id2label=dict(enumerate(WORDS)),
    )


def train(values: list[torch.Tensor], labels: torch.Tensor, steps: int, seed: int) -> nn.Module:
    """An AST from nothing, by AdamW with a warm-up and a cosine."""
    torch.manual_seed(seed)
    model = ASTForAudioClassification(config()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    done = 0
    while done < steps:
        for rows in torch.randperm(len(values)).split(BATCH)[: steps - done]:
            batch = [louder(values[row]) for row in rows]
            model(batch, labels=labels[rows]).loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            done += 1
    return model.eval()


def accuracy(model: nn.Module, values: list[torch.Tensor], labels: torch.Tensor) -> float:
    """The share of clips whose digit is found."""
    with torch.no_grad():
        found = torch.cat([model(values[i : i + 64]).logits for i in range(0, len(values), 64)])
    return float((found.argmax(-1) == labels).double().mean())


def stretched(values: list[torch.Tensor]) -> np.ndarray:
    """Spectrograms brought to 24 frames, side by side: what nearest neighbours compare."""
    planes = [value[None, None] for value in values]
    planes = [nn.functional.interpolate(p, (24, BINS), mode="bilinear") for p in planes]
    return torch.cat(planes).flatten(1).numpy()


def main() -> None:
    """Speak, train and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--draws", type=int, default=3, help="of speed and pitch, in training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a folder for the model")
    options = parser.parse_args()
    print_environment(options.threads)
    version = subprocess.run(["espeak-ng", "--version"], capture_output=True, check=True).stdout
    print(" ".join(version.decode().split()[:5]))
    extractor = ASTFeatureExtractor(num_mel_bins=BINS, max_length=LONGEST)
    sounds, classes = clips(VOICES, ACCENTS, options.draws, options.seed)
    others, other_classes = clips(HELD_OUT, OTHER_ACCENTS, 2, options.seed + 1)
    values, held_out = spectrograms(extractor, sounds), spectrograms(extractor, others)
    lengths = sorted(len(value) for value in [*values, *held_out])
    print(
        f"{len(values)} clips of {len(VOICES)} voices to train on, {len(held_out)} of "
        f"{len(HELD_OUT)} others held out; {lengths[0]} to {lengths[-1]} frames of 10 ms",
        flush=True,
    )
    labels, other_labels = torch.tensor(classes), torch.tensor(other_classes)
    known = KNeighborsClassifier(3).fit(stretched(values), labels)
    near = known.score(stretched(held_out), other_labels)
    print(f"3 neighbours of stretched spectrograms: {near:.4f}", flush=True)
    start = time.process_time()
    model = train(values, labels, options.steps, options.seed)
    seconds = time.process_time() - start
    print(f"AST: {accuracy(model, held_out, other_labels):.4f} on voices held out, ", end="")
    print(
        f"{accuracy(model, values, labels):.4f} on those of training; {seconds:.0f} s of training"
    )
    if options.out is not None:
        model.save_pretrained(options.out)
        extractor.save_pretrained(options.out)


if __name__ == "__main__":
    main()
