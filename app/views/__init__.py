"""A folder per page: the page itself bears its name, what only this page needs lies beside it."""
