//! How connections begin, and what those get who do not mean to.
