"""What several services share: account, credentials, records, tags, paging, long polls, threads."""
