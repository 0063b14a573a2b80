"""The fixed first part of the model `modulation`: samples of any kind to three representations.

Nothing here is learned. Complex numbers are pairs of real tensors (re, im), because ONNX Runtime has no
complex type, and the Fourier transforms are matrix products when exported.
"""

import math

import torch
from torch import nn

BLOCK = 1024
HALF = BLOCK // 2
SHORT = 64
TINY = 1e-12


class Fourier(nn.Module):
    """The Fourier transform of `side`² points over the last axis.

    Exported as Cooley and Tukey's two passes of `side` points with a twist between them: two small products.
    """

    def __init__(self, side):
        super().__init__()
        self.side = side
        index = torch.arange(side, dtype=torch.float64)
        angle = -2 * math.pi * index[:, None] * index[None, :] / side
        for name, turn in {"pass": angle, "twist": angle / side}.items():
            self.register_buffer(f"{name}_cos", torch.cos(turn).float())
            self.register_buffer(f"{name}_sin", torch.sin(turn).float())

    def forward(self, re, im):
        if not torch.onnx.is_in_onnx_export():
            spectrum = torch.fft.fft(torch.complex(re, im))
            return spectrum.real, spectrum.imag
        re, im = self.product(self.square(re), self.square(im))
        re, im = re * self.twist_cos - im * self.twist_sin, re * self.twist_sin + im * self.twist_cos
        re, im = self.product(re.transpose(-1, -2), im.transpose(-1, -2))
        return re.transpose(-1, -2).reshape(self.shape), im.transpose(-1, -2).reshape(self.shape)

    def inverse(self, re, im):
        """The transform of (im, re), swapped back and divided by the length."""
        im, re = self(im, re)
        return re / self.side**2, im / self.side**2

    def square(self, x):
        """[..., n] to [..., column, row]; remembers the shape to come back to."""
        self.shape = x.shape
        return x.reshape(*x.shape[:-1], self.side, self.side).transpose(-1, -2)

    def product(self, re, im):
        """The transform over rows of `side` points."""
        cos, sin = self.pass_cos, self.pass_sin
        return re @ cos - im @ sin, re @ sin + im @ cos


def overlapping(x, half):
    """[..., N] with N a multiple of `half` to [..., blocks, 2 half]: blocks that overlap by half."""
    halves = x.reshape(*x.shape[:-1], -1, half)
    return torch.cat([halves[..., :-1, :], halves[..., 1:, :]], dim=-1)


def windowed_power(re, im):
    """Power spectrum as if a Hann window had been applied before the transform: a convolution over bins."""
    def hann(x):
        return 0.5 * x - 0.25 * (torch.roll(x, 1, -1) + torch.roll(x, -1, -1))
    return hann(re).square() + hann(im).square()


def smooth(x, reach):
    """Circular mean over ± `reach` bins of the last axis; [B, bins]."""
    wide = torch.cat([x[:, -reach:], x, x[:, :reach]], dim=1)
    return nn.functional.avg_pool1d(wide[:, None], 2 * reach + 1, 1)[:, 0]


def level(x, floor=1e-6):
    """Decades above or below the mean decade, over the last axis."""
    decades = torch.log10(x / (x.mean(dim=-1, keepdim=True) + TINY) + floor)
    return decades - decades.mean(dim=-1, keepdim=True)


class Frontend(nn.Module):
    """[B, 1, 2, N] to spectra [B, 7, 1024], stream [B, 4, ~N] and spectrogram [B, 1, 64, ~N / 32]."""

    def __init__(self):
        super().__init__()
        self.long, self.short = Fourier(math.isqrt(BLOCK)), Fourier(math.isqrt(SHORT))

    def forward(self, x):
        re, im = self.whole_blocks(x)
        block_re, block_im = self.long(overlapping(re, HALF), overlapping(im, HALF))
        power = windowed_power(block_re, block_im)
        mean = power.mean(dim=1)

        # The signal without most of the noise beside it: bins near the noise floor, the lower fifth of all
        # bins, are attenuated; the middle halves of the blocks then join without seams (overlap-save).
        near = smooth(mean, 2)
        floor = torch.topk(near, BLOCK, dim=1).values[:, BLOCK * 4 // 5].unsqueeze(1)
        gain = (near / (near + 2.0 * floor + TINY)).square().unsqueeze(1)
        y_re, y_im = self.long.inverse(block_re * gain, block_im * gain)
        middle = slice(HALF // 2, HALF // 2 + HALF)
        y_re, y_im = y_re[..., middle].flatten(1), y_im[..., middle].flatten(1)

        stream, square, fourth = self.stream(y_re, y_im)
        zero = torch.zeros_like(y_re)
        derived = [(stream[:, 0].square(), zero), square, fourth, (stream[:, 3], zero)]
        spectra = [level(mean), level(power.amax(dim=1))]
        spectra += [level(self.spectrum(*sequence)) for sequence in derived]
        spectra.append(self.repetition(block_re, block_im))
        return torch.stack(spectra, dim=1), stream, self.spectrogram(re, im)

    @staticmethod
    def whole_blocks(x):
        """Unit mean power, and zeros at the end up to a whole number of half blocks, two at least."""
        x = x[:, 0]
        x = x / torch.sqrt(x.square().mean(dim=(1, 2), keepdim=True) * 2 + 1e-30)
        x = nn.functional.pad(x, (0, BLOCK - 1))
        x = x[:, :, : x.shape[2] // HALF * HALF]
        return x[:, 0], x[:, 1]

    @staticmethod
    def stream(re, im):
        """Sample by sample: amplitude, its logarithm, cosine and sine of the phase step from the mean step.

        Also the sequence's second and fourth power at its own amplitude: a line in their spectrum is the
        carrier of a phase modulation.
        """
        power = re.square() + im.square()
        # The level while a signal is on, also where it is on only now and then.
        on = power.square().mean(dim=1, keepdim=True) / (power.mean(dim=1, keepdim=True) + TINY) + TINY
        re, im, power = re / torch.sqrt(on), im / torch.sqrt(on), power / on
        before_re = torch.cat([re[:, :1], re[:, :-1]], dim=1)
        before_im = torch.cat([im[:, :1], im[:, :-1]], dim=1)
        step_re = re * before_re + im * before_im
        step_im = im * before_re - re * before_im
        mean_re, mean_im = step_re.mean(dim=1, keepdim=True), step_im.mean(dim=1, keepdim=True)
        length = torch.sqrt(mean_re.square() + mean_im.square() + TINY)
        # Where the signal is off the phase means nothing: the steps fade out below a tenth of the level.
        weight = 1.0 / (torch.sqrt(step_re.square() + step_im.square() + TINY) + 0.05) / length
        cosine = (step_re * mean_re + step_im * mean_im) * weight
        sine = (step_im * mean_re - step_re * mean_im) * weight
        amplitude = torch.sqrt(power + TINY)
        stream = torch.stack([amplitude.clamp(max=4.0), torch.log10(amplitude + 0.02), cosine, sine], dim=1)
        square_re, square_im = (re.square() - im.square()), 2 * re * im
        fourth_re, fourth_im = square_re.square() - square_im.square(), 2 * square_re * square_im
        once, thrice = amplitude + 1e-3, power * amplitude + 1e-3
        return stream, (square_re / once, square_im / once), (fourth_re / thrice, fourth_im / thrice)

    def spectrum(self, re, im):
        """Mean power spectrum of a sequence without its mean, [B, N] to [B, 1024]."""
        re = re - re.mean(dim=1, keepdim=True)
        im = im - im.mean(dim=1, keepdim=True)
        # One more half block, so that a single one makes a block too.
        re, im = nn.functional.pad(re, (0, HALF)), nn.functional.pad(im, (0, HALF))
        return windowed_power(*self.long(overlapping(re, HALF), overlapping(im, HALF))).mean(dim=1)

    def repetition(self, re, im):
        """Autocorrelation of the whitened signal at lags 0 to 1023, in its standard deviation under noise.

        A cyclic prefix repeats the end of each symbol: a peak at the symbol's length.
        """
        mean = (re.square() + im.square()).mean(dim=1)
        white = mean / (smooth(mean, 16) + TINY) - 1.0
        lag_re, lag_im = self.long.inverse(white, torch.zeros_like(white))
        samples = re.shape[1] * HALF
        return torch.sqrt((lag_re.square() + lag_im.square()) * samples + TINY).clamp(max=30.0) / 4.0

    def spectrogram(self, re, im):
        """Short-time power over time in decades, [B, 1, 64, time]; the lowest frequency first."""
        power = windowed_power(*self.short(overlapping(re, SHORT // 2), overlapping(im, SHORT // 2)))
        mean = power.mean(dim=(1, 2), keepdim=True)
        decades = torch.log10(power / (mean + TINY) + 1e-5)
        return torch.roll(decades, SHORT // 2, -1).transpose(1, 2).unsqueeze(1)
