"""What a space is run with, over REST: users, groups, quotas, storage servers, jobs; and who a caller is."""
