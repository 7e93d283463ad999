"""The engines that the utility benchmark compares, each used as its own experts would."""
