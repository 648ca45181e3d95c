"""The others, and we as one of them: each module offers the same few words to a benchmark."""
