"""The sets of ImageBind's paper that mteb lacks, as they are published: readers, zero-shot, retrieval, few-shot."""
