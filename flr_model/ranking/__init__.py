"""From what the network says of users to ranked items."""
