"""The compiled core: thin Cython over ``src_c``. No policy lives here, and nothing here has a slow substitute."""
