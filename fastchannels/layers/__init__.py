"""Channel layers: one contract (:mod:`fastchannels.layers.base`), several stores."""
