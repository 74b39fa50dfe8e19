"""The laboratory for deep convolutional GANs: see, measure and change how a DCGAN works."""

__version__ = "0.1.0"
