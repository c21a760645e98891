"""Models and fits: the generative model, sampling, tables, saving and loading."""
