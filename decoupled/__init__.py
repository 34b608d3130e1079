"""HTTP requests that are never lost: received, queued, processed at a controlled rate, stored exactly once."""
