"""One actor per connection, and the directory that wakes and rests them."""
