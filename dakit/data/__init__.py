"""Image sets and what is done with them: splits, batches, augmentation on the device."""
