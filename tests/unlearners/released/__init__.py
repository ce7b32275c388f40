"""What only the released code of some papers does, rebuilt here to test the parts that we share."""
