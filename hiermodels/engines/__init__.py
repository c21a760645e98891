"""How it is computed: log densities with gradients, and the native interface to the sampler."""
