"""MongoDB: what is kept beside the ledger."""

from jitway.adapters.mongodb.adapter import MongoDBAdapter

__all__ = ["MongoDBAdapter"]
