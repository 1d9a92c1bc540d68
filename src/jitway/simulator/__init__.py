"""Realistic card traffic for any gateway, over HTTP and open loop; knows nothing of its inside."""
