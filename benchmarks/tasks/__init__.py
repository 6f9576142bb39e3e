"""The same tasks by each library: small functions of a `Case`, in one file a library."""
